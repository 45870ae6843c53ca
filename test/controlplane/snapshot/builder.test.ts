// Snapshots step by step: what a change translates again, and what stays the very same object.
import t from 'tap';
import { SnapshotBuilder } from '../../../controlplane/snapshot/builder.ts';
import type { Snapshot } from '../../../controlplane/snapshot/snapshot.ts';
import { objectKey } from '../../../shared/kube/object.ts';
import type { KubeObject, ObjectEvent } from '../../../shared/kube/object.ts';
import { aGateway, aNamespace, aNode, aPeer, aPod, aPolicy, aService, SETTINGS } from '../translate/objects.ts';

const set = (object: KubeObject): ObjectEvent => ({ type: 'set', key: objectKey(object), object });
const remove = (object: KubeObject): ObjectEvent => ({ type: 'delete', key: objectKey(object) });
const POD = 'Kubernetes//Pod/shop/a';
const WEB = 'shop/web.shop.svc.cluster.local';

class Steps {
  #builder = new SnapshotBuilder(SETTINGS, (key) => `at ${key}`);

  step(...events: ObjectEvent[]): Snapshot {
    this.#builder.apply(events);
    return this.#builder.build(0);
  }
}

/** Names of Address resources that differ between two snapshots. */
function changes(from: Snapshot, to: Snapshot): { changed: string[]; removed: string[] } {
  const { changed, removed } = to.addresses.diffFrom(from.addresses);
  return { changed: changed.map(({ name }) => name).sort(), removed: [...removed].sort() };
}

t.test('a change reaches what depends on it, and nothing else', async (t) => {
  const steps = new Steps();
  const bystander = aPod({ name: 'z', namespace: 'other' }, {}, { podIPs: [{ ip: '10.0.0.9' }] });
  const namespace = aNamespace('shop', { labels: { 'istio.io/use-waypoint': 'waypoint' } });
  const peer = aPeer({ mtls: { mode: 'STRICT' } });
  const policy = aPolicy({ selector: { matchLabels: { app: 'web' } }, action: 'DENY' });
  const all = { labels: { 'istio.io/waypoint-for': 'all' } };
  let last = steps.step(set(aPod({}, { nodeName: 'n' })), set(aService()), set(bystander));
  t.equal(last.addresses.resources.size, 3);
  const untouched = last.addresses.resources.get('Kubernetes//Pod/other/z');
  const sequence: [string, ObjectEvent, string[]][] = [
    ['a node gets a zone', set(aNode('n', { 'topology.kubernetes.io/zone': 'z' })), [POD]],
    ['a namespace asks for a waypoint that is not there', set(namespace), []],
    ['the waypoint is there', set(aGateway(all)), [POD, WEB]],
    ['the waypoint is for services only', set(aGateway()), [POD]],
    ['the waypoint goes', remove(aGateway()), [WEB]],
    ['STRICT', set(peer), [POD]],
    ['a policy selects', set(policy), [POD]],
    ['the same policy with another action', set(aPolicy({ ...policy.spec, action: 'ALLOW' })), []],
    ['the policy goes', remove(policy), [POD]],
    ['another port of the service', set(aService({}, { ports: [{ port: 81 }] })), [POD, WEB]],
    ['the service goes', remove(aService()), [POD]],
  ];
  for (const [what, event, expected] of sequence) {
    const next = steps.step(event);
    t.same(changes(last, next).changed, expected, what);
    t.same(changes(last, next).removed, what === 'the service goes' ? [WEB] : [], what);
    t.equal(next.addresses.resources.get('Kubernetes//Pod/other/z'), untouched, 'the bystander is the same object');
    last = next;
  }
  t.same(changes(last, steps.step(remove(aPod()))), { changed: [], removed: [POD] });
});

t.test('snapshots do not change afterwards', async (t) => {
  const steps = new Steps();
  const first = steps.step(set(aPod()), set(aService()));
  steps.step(remove(aPod()), set(aService({}, { ports: [{ port: 81 }] })));
  t.equal(first.workloads.size, 1);
  t.equal(first.addresses.resources.size, 2);
  t.equal(first.objects.get('Service', 'shop', 'web')?.spec?.ports?.[0]?.port, 80);
  t.ok(first.objects.get('Pod', 'shop', 'a'));
});

t.test('nothing to tell, nothing new', async (t) => {
  const steps = new Steps();
  const first = steps.step(set(aPod()));
  const second = steps.step(set(aPod({ annotations: { 'no.one/cares': 'x' } })));
  t.same(changes(first, second), { changed: [], removed: [] });
  t.equal(second.authorizations, first.authorizations);
});

t.test('policies and faults', async (t) => {
  const steps = new Steps();
  const snapshot = steps.step(
    set(aPolicy({ action: 'DENY' })),
    set(aPolicy({ action: 'CUSTOM' }, { name: 'c' })),
    set(aPeer({})),
  );
  t.same([...snapshot.authorizations.resources.keys()].sort(), ['culvert-system/istio_converted_static_strict', 'shop/p']);
  t.match(snapshot.faults, [
    { where: 'at AuthorizationPolicy/shop/c', field: 'spec.action' },
    { field: 'metadata.namespace' },
    { field: 'metadata.namespace' },
    { field: 'metadata.namespace' },
  ]);
  t.equal(steps.step(set(aNamespace('shop'))).faults.length, 1);
});

t.test('one pod among many costs little', async (t) => {
  const steps = new Steps();
  const events: ObjectEvent[] = [];
  for (let n = 0; n < 100; n++) {
    const namespace = `ns-${n}`;
    for (let s = 0; s < 20; s++) events.push(set(aService({ name: `s-${s}`, namespace }, { selector: { app: `s-${s}` } })));
    for (let p = 0; p < 100; p++) {
      const status = { podIPs: [{ ip: `10.${n}.0.${p}` }] };
      events.push(set(aPod({ name: `p-${p}`, namespace, labels: { app: `s-${p % 20}` } }, {}, status)));
    }
  }
  const first = steps.step(...events);
  t.equal(first.addresses.resources.size, 12_000);
  const start = performance.now();
  const next = steps.step(
    set(aPod({ name: 'p-0', namespace: 'ns-5', labels: { app: 's-0' } }, {}, { podIPs: [{ ip: '10.5.1.1' }] })),
  );
  const took = performance.now() - start;
  t.same(changes(first, next).changed, ['Kubernetes//Pod/ns-5/p-0']);
  t.ok(took < 250, `took ${took.toFixed(1)} ms`);
});

t.test('a DENY that cannot be translated keeps its last good state, and the rest goes on', async (t) => {
  const steps = new Steps();
  const deny = (block: string, name = 'p') =>
    set(aPolicy({ action: 'DENY', rules: [{ from: [{ source: { ipBlocks: [block] } }] }] }, { name }));
  const first = steps.step(deny('10.0.0.0/8'));
  const second = steps.step(deny('10.0.0.0/abc'), deny('10.1.0.0/16', 'other'));
  t.equal(
    second.authorizations.resources.get('shop/p')?.version,
    first.authorizations.resources.get('shop/p')?.version,
    'the last good one',
  );
  t.ok(second.authorizations.resources.has('shop/other'));
  t.match(second.faults, [
    { field: 'spec', reason: 'cannot be translated: "10.0.0.0/abc" is not an address or a block like 10.0.0.0/8' },
  ]);
  const third = steps.step(deny('10.2.0.0/16', 'third'));
  t.ok(third.authorizations.resources.has('shop/p'), 'also after further changes');
  t.notOk(steps.step(remove(aPolicy({}, { name: 'p' }))).authorizations.resources.has('shop/p'), 'until it is removed');
});

t.test('an object that cannot be encoded is a fault of its own, and the rest goes on', async (t) => {
  const steps = new Steps();
  const port = (containerPort: number) => ({ containers: [{ name: 'app', ports: [{ name: 'http', containerPort }] }] });
  const service = aService({}, { ports: [{ port: 80, targetPort: 'http' }] });
  const first = steps.step(set(service), set(aPod({}, port(8080))));
  const other = aPod({ name: 'b' }, port(8080), { podIPs: [{ ip: '10.0.0.2' }] });
  const second = steps.step(set(aPod({}, port(-1))), set(other));
  t.same(changes(first, second).changed, ['Kubernetes//Pod/shop/b']);
  t.match(second.faults[0], { where: 'at Pod/shop/a', reason: /^cannot be translated: .*invalid uint32/u });
});

t.test('what changed in a snapshot that could not be made is in the next one', async (t) => {
  const builder = new SnapshotBuilder(SETTINGS, (key) => key);
  const unreadable = aPeer({ selector: { matchLabels: { app: 'web' } }, portLevelMtls: { 80: null as never } });
  builder.apply([set(aPod({ namespace: 'other' })), set(unreadable)]);
  t.throws(() => builder.build(0), 'the validator lets nothing such pass');
  builder.apply([remove(unreadable)]);
  t.same([...builder.build(0).addresses.resources.keys()], ['Kubernetes//Pod/other/a']);
});
