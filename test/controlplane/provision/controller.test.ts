// A waypoint from its Gateway to its end, over a store that hears what the controller writes, as folders and the API server do.
import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { KubeObject, ObjectEvent, ObjectKey, ObjectWriter } from '#shared/kube/object.ts';
import { objectKey } from '#shared/kube/object.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { WaypointController } from '../../../controlplane/provision/controller.ts';
import { ObjectStore } from '../../../controlplane/store/store.ts';

class World implements ObjectWriter {
  readonly store = new ObjectStore();
  readonly writes: string[] = [];
  readonly clock = new FakeClock(Date.parse('2026-01-01T00:00:00Z'));
  fail = false;
  /** Rounds that looked at the Gateways. */
  rounds = 0;
  readonly controller = new WaypointController({
    objects: {
      get: (kind, namespace, name) => this.store.get(kind, namespace, name),
      list: (kind, namespace) => {
        if (kind === 'Gateway') this.rounds += 1;
        return this.store.list(kind, namespace);
      },
    },
    writer: this,
    settings: {
      publicAddress: 'https://cp:15012',
      trustDomain: 'cluster.local',
      clusterId: 'Kubernetes',
      clusterDomain: 'cluster.local',
      image: 'culvert',
    },
    clock: this.clock,
    log: new Logging({ sink: { write: () => undefined } }).scope('test'),
  });

  async set(...objects: KubeObject[]): Promise<void> {
    await this.hear(objects.map((object) => ({ type: 'set', key: objectKey(object), object })));
  }

  async hear(events: ObjectEvent[]): Promise<void> {
    this.store.apply(events);
    this.controller.onEvents(events);
    for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
  }

  async apply(object: KubeObject): Promise<void> {
    if (this.fail || object.metadata.name === 'odd') throw new Error('disk full');
    this.writes.push(`apply ${objectKey(object)}`);
    this.store.apply([{ type: 'set', key: objectKey(object), object }]);
  }

  async remove(key: ObjectKey): Promise<void> {
    this.writes.push(`remove ${key}`);
    this.store.apply([{ type: 'delete', key }]);
  }

  async overlay(key: ObjectKey, patch: Record<string, unknown> | undefined): Promise<void> {
    this.writes.push(`${patch ? 'overlay' : 'clear'} ${key}`);
    const [kind, namespace = '', name = ''] = key.split('/');
    const object = kind === 'Gateway' ? this.store.get('Gateway', namespace, name) : undefined;
    if (object) this.store.apply([{ type: 'set', key, object: { ...object, ...patch } }]);
  }

  gateway(name = 'wp'): Gateway | undefined {
    return this.store.get('Gateway', 'shop', name);
  }
}

const gateway = (name: string, annotations: Record<string, string> = {}, className = 'istio-waypoint'): Gateway => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: { name, namespace: 'shop', uid: 'u1', annotations },
  spec: { gatewayClassName: className, listeners: [{ name: 'mesh', port: 15_008, protocol: 'HBONE' }] },
});

const object = (kind: string, name: string, rest: object = {}): KubeObject => ({
  apiVersion: 'v1',
  kind,
  metadata: { name, namespace: 'shop' },
  ...rest,
});

const readyPod = (of: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `${of}-0`, namespace: 'shop', labels: { 'gateway.networking.k8s.io/gateway-name': of } },
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
});

test('a Gateway gets its objects, then an address once a pod is ready and the Service has one', async (t) => {
  const world = new World();
  await world.set(gateway('wp'));
  t.same(world.writes, [
    'apply ServiceAccount/shop/wp',
    'apply Deployment/shop/wp',
    'apply Service/shop/wp',
    'overlay Gateway/shop/wp',
  ]);
  t.match(world.gateway()?.status, {
    addresses: [],
    conditions: [
      { type: 'Accepted', status: 'True' },
      { type: 'Programmed', status: 'False' },
    ],
  });
  const deployment = world.store.get('Deployment', 'shop', 'wp');
  t.match(deployment?.spec?.template.metadata?.labels, {
    'istio.io/dataplane-mode': 'none',
    'gateway.istio.io/managed': 'istio.io-mesh-controller',
  });
  t.match(deployment?.metadata.ownerReferences, [{ kind: 'Gateway', name: 'wp', uid: 'u1' }]);
  const [container] = deployment?.spec?.template.spec?.containers ?? [];
  t.same(container?.args, ['waypoint']);
  t.match(
    container?.env?.find(({ name }) => name === 'XDS_ADDRESS'),
    { value: 'https://cp:15012' },
  );

  await world.set(readyPod('wp'));
  t.match(world.gateway()?.status, { addresses: [] }, 'the Service has no address yet');
  const service = world.store.get('Service', 'shop', 'wp');
  if (!service) throw new Error('no Service');
  await world.set({ ...service, spec: { clusterIP: '10.96.0.9' } });
  t.match(world.gateway()?.status, {
    addresses: [{ type: 'Hostname', value: 'wp.shop.svc.cluster.local' }],
    conditions: [{}, { type: 'Programmed', status: 'True' }],
  });

  await world.set({ ...readyPod('wp'), status: { conditions: [{ type: 'Ready', status: 'False' }] } });
  t.match(
    world.gateway()?.status,
    {
      addresses: [{ type: 'Hostname', value: 'wp.shop.svc.cluster.local' }],
      conditions: [{}, { type: 'Programmed', status: 'False', reason: 'NoResources' }],
    },
    'without a ready pod the address stays: nobody goes past the waypoint',
  );
});

test('nothing is written twice, and conditions keep their time', async (t) => {
  const world = new World();
  await world.set(gateway('wp'));
  const before = world.writes.length;
  world.clock.advance(60_000);
  await world.set(object('Pod', 'someone'));
  t.equal(world.writes.length, before);
});

test('with the Gateway goes everything that was made for it, and nothing else', async (t) => {
  const world = new World();
  await world.set(object('ServiceAccount', 'other'), gateway('wp'));
  world.writes.length = 0;
  await world.hear([{ type: 'delete', key: 'Gateway/shop/wp' }]);
  t.same(world.writes.toSorted(), [
    'clear Gateway/shop/wp',
    'remove Deployment/shop/wp',
    'remove Service/shop/wp',
    'remove ServiceAccount/shop/wp',
  ]);
  t.ok(world.store.get('ServiceAccount', 'shop', 'other'));
});

test('after a restart objects of a Gateway that went meanwhile are found by their labels', async (t) => {
  const world = new World();
  const labels = { 'gateway.istio.io/managed': 'istio.io-mesh-controller', 'gateway.networking.k8s.io/gateway-name': 'old' };
  await world.set({ ...object('Service', 'old'), metadata: { name: 'old', namespace: 'shop', labels } });
  t.same(world.writes, ['remove Service/shop/old']);
});

test('an application of the same name keeps its objects', async (t) => {
  const world = new World();
  await world.set(object('Deployment', 'catalog'), object('Service', 'catalog'), gateway('catalog'));
  t.ok(world.writes.includes('apply Deployment/shop/catalog-waypoint'));
  t.notOk(world.writes.includes('apply Deployment/shop/catalog'));
  await world.hear([{ type: 'delete', key: 'Gateway/shop/catalog' }]);
  t.ok(world.store.get('Deployment', 'shop', 'catalog'));
  t.notOk(world.store.get('Deployment', 'shop', 'catalog-waypoint'));
});

test('a given service account is used and not made; other classes are left alone', async (t) => {
  const world = new World();
  await world.set(gateway('wp', { 'culvert.dev/service-account': 'mine' }), gateway('edge', {}, 'istio'));
  t.same(
    world.writes.filter((write) => write.includes('ServiceAccount') || write.includes('edge')),
    [],
  );
  t.equal(world.store.get('Deployment', 'shop', 'wp')?.spec?.template.spec?.serviceAccountName, 'mine');
});

test('a failed write is tried again', async (t) => {
  const world = new World();
  world.fail = true;
  await world.set(gateway('wp'));
  t.same(world.writes, []);
  world.fail = false;
  world.clock.advance(1000);
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
  t.ok(world.store.get('Deployment', 'shop', 'wp'));
});

test('one Gateway that cannot be served is no matter of the others, and is tried once a second', async (t) => {
  const world = new World();
  await world.set(gateway('odd'), gateway('wp'));
  t.ok(world.store.get('Deployment', 'shop', 'wp'));
  for (let event = 0; event < 5; event += 1) await world.set(object('Pod', `p${event}`));
  await world.hear([{ type: 'delete', key: 'Gateway/shop/wp' }]);
  t.notOk(world.store.get('Deployment', 'shop', 'wp'), 'what is over goes');
  world.rounds = 0;
  for (let step = 0; step < 10; step += 1) {
    world.clock.advance(500);
    for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
  }
  t.equal(world.rounds, 5);
});

test('an object that somebody took away is made again', async (t) => {
  const world = new World();
  await world.set(gateway('wp'));
  await world.hear([{ type: 'delete', key: 'Deployment/shop/wp' }]);
  t.ok(world.store.get('Deployment', 'shop', 'wp'));
});
