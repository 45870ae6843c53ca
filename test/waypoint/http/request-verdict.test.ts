// Odd requests, through our waypoint and through a real Envoy with the same configuration: both must give the same answer, and the backend
// must see the same of them. Where we differ, the corpus says why (docs/decisions/0021-odd-responses.md).
import { createServer } from 'node:net';
import { test } from 'tap';
import { spiffeId } from '#shared/ids.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { EnvoyResources } from '../../../controlplane/translate/envoy/model.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import type { PolicyRule } from '#shared/kube/istio-api.ts';
import { aMesh, aPolicy, aRoute, aScope, aService, aWorkload, service } from '../../controlplane/translate/envoy/mesh.ts';
import { ODD_REQUESTS } from '../../fixtures/odd-requests.ts';
import { noEnvoy } from '../../harness/envoy.ts';
import { endTunnels, ownAddress, startWaypoint, testCertificates, type WaypointLab } from '../../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1';
/** A client that waits longer, ms, got no answer. */
const PATIENCE = 3000;

function resources(ip: string): EnvoyResources {
  const echo = aService({ name: 'echo', vip: VIP });
  const dead = aService({ name: 'dead', vip: '10.96.0.2' });
  const empty = aService({ name: 'empty', vip: '10.96.0.3' });
  const when = (name: string, value: string): PolicyRule => ({
    when: [{ key: `request.headers[${name}]`, values: [value] }],
  });
  const deny = aPolicy('deny', {
    targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
    action: 'DENY',
    rules: [
      { to: [{ operation: { paths: ['/private*'] } }] },
      when('d-exact', 'no'),
      when('d-prefix', 'no*'),
      when('d-suffix', '*no'),
      when('d-present', '*'),
      when('cookie', 'a=1'),
      when('user-agent', 'no'),
      when('x-envoy-retry-on', 'd-forged'),
      { when: [{ key: 'request.headers[d-need]', notValues: ['yes'] }], to: [{ operation: { paths: ['/public'] } }] },
    ],
  });
  const backendRefs = [{ name: 'echo', port: 80 }];
  const rules = [
    {
      matches: [
        { headers: [{ name: 'r', value: 'two' }] },
        { path: { value: '/two' } },
        { queryParams: [{ name: 'q', value: 'two' }] },
      ],
      filters: [{ type: 'RequestRedirect' as const, requestRedirect: { hostname: 'two' } }],
    },
    { matches: [{ path: { value: '/hangs' } }], backendRefs, timeouts: { request: '100ms' } },
    { matches: [{ path: { value: '/empty' } }], backendRefs: [{ name: 'empty', port: 80 }] },
    { matches: [{ path: { value: '/dead' } }], backendRefs: [{ name: 'dead', port: 80 }] },
    { matches: [{ path: { value: '/nobody' } }], backendRefs: [{ name: 'nobody', port: 80 }] },
    {
      matches: [{ path: { value: '/edited' } }],
      filters: [
        {
          type: 'ResponseHeaderModifier' as const,
          responseHeaderModifier: { set: [{ name: 'grpc-edited', value: 'x' }], remove: ['date'] },
        },
      ],
      backendRefs: [{ name: 'empty', port: 80 }],
    },
    { matches: [{ path: { value: '/public' } }, { path: { value: '/private' } }, { path: { value: '/x' } }], backendRefs },
  ];
  const mesh = aMesh({
    services: [echo, dead, empty],
    workloads: [
      aWorkload({ name: 'echo-0', ip, service: echo }),
      aWorkload({ name: 'dead-0', ip: ownAddress(), service: dead, hbone: false }),
    ],
    routes: [aRoute('r', [service('echo')], rules)],
    policies: [deny],
  });
  return waypointResources(mesh, aScope({ services: [echo] }));
}

/** Answers each request with its head, and one for `/hangs` never. */
async function startBackend(ip: string): Promise<Disposable> {
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.includes('\r\n\r\n') && !text.includes(' /hangs '))
        socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(8080, ip, resolve));
  return { [Symbol.dispose]: () => server.close() };
}

/** The answer without what differs from one to the next: status, fields that count, what the backend saw. */
async function outcomeOf(lab: WaypointLab, text: string): Promise<string> {
  const socket = await lab.connect(`${VIP}:80`);
  try {
    return await new Promise<string>((resolve) => {
      let got = '';
      const timer = setTimeout(() => resolve('no answer'), PATIENCE);
      const done = (): void => {
        clearTimeout(timer);
        resolve(essence(got));
      };
      socket.on('data', (chunk: Buffer) => {
        got += chunk.toString('latin1');
        const end = got.indexOf('\r\n\r\n');
        const length = Number(/\r\ncontent-length: (\d+)/u.exec(got)?.[1] ?? 0);
        if (end !== -1 && got.length >= end + 4 + length) done();
      });
      socket.on('close', done);
      socket.write(text);
    });
  } finally {
    socket.destroy();
  }
}

/** Fields of the waypoint's answer that must be alike, where it did not come from the backend. */
const COUNTS = /^(?:location|grpc-|content-type: application)/u;

function essence(answer: string): string {
  const [head = '', ...rest] = answer.split('\r\n\r\n');
  const [status = '', ...fields] = head.split('\r\n');
  const [target = '', ...seen] = (rest[0] ?? '').split('\r\n');
  const told = fields.filter((field) => COUNTS.test(field));
  if (!target.endsWith(' HTTP/1.1')) return [status, ...told.sort()].join('\n');
  const stable = seen.map((field) => field.replace(/^(x-request-id): [-0-9a-f]{36}$/u, '$1'));
  return [status, target, ...stable.sort()].join('\n');
}

test('the same answer as Envoy', { skip: noEnvoy, timeout: 120_000 }, async (t) => {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const ip = ownAddress();
  using _ = await startBackend(ip);
  const certificates = testCertificates();
  const ours = await startWaypoint(t, 'native', resources(ip), certificates);
  const envoy = await startWaypoint(t, 'envoy', resources(ip), certificates);
  await endTunnels(reactor, certificates, ip, pod);
  for (const { what, text, differs } of ODD_REQUESTS) {
    const [own, theirs] = await Promise.all([outcomeOf(ours, text), outcomeOf(envoy, text)]);
    t.not(theirs, 'no answer', what);
    if (differs === undefined) t.equal(own, theirs, what);
    else t.not(own, theirs, `${what}: ${differs}`);
  }
});
