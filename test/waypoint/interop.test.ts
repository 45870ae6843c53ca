// The same requests through our waypoint and through a real Envoy with the same resources: both must give the same verdicts.
import type { IncomingMessage, ServerResponse } from 'node:http';
import net from 'node:net';
import { test } from 'tap';
import { spiffeId } from '#shared/ids.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import type { HTTPRouteRule } from '#shared/kube/gateway-api.ts';
import { aMesh, aPolicy, aRoute, aScope, aService, aWorkload, service } from '../controlplane/translate/envoy/mesh.ts';
import { noEnvoy } from '../harness/envoy.ts';
import { type Answer, type Ask, ownAddress, startPod, startWaypoint, testCertificates } from '../harness/waypoint-lab.ts';

const backend = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });

const rules: HTTPRouteRule[] = [
  { matches: [{ path: { type: 'Exact', value: '/exact' } }], backendRefs: [{ name: 'v1', port: 80 }] },
  {
    matches: [{ path: { value: '/v2' } }, { headers: [{ name: 'version', value: 'two' }] }],
    backendRefs: [{ name: 'v2', port: 80 }],
  },
  {
    matches: [{ path: { value: '/prefix/one' } }],
    filters: [{ type: 'URLRewrite', urlRewrite: { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/one' } } }],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  {
    matches: [{ path: { value: '/strip-prefix' } }],
    filters: [
      {
        type: 'URLRewrite',
        urlRewrite: { hostname: 'other.example', path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/' } },
      },
    ],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  {
    matches: [{ path: { value: '/full' } }],
    filters: [{ type: 'URLRewrite', urlRewrite: { path: { type: 'ReplaceFullPath', replaceFullPath: '/replaced' } } }],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  {
    matches: [{ path: { value: '/redirect' } }],
    filters: [
      {
        type: 'RequestRedirect',
        requestRedirect: {
          hostname: 'example.org',
          statusCode: 301,
          path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/new' },
        },
      },
    ],
  },
  {
    matches: [{ path: { value: '/https' } }],
    filters: [{ type: 'RequestRedirect', requestRedirect: { scheme: 'https', port: 8443 } }],
  },
  {
    matches: [{ path: { value: '/headers' } }],
    filters: [
      {
        type: 'RequestHeaderModifier',
        requestHeaderModifier: {
          set: [{ name: 'X-Set', value: 'set' }],
          add: [{ name: 'X-Add', value: 'add' }],
          remove: ['X-Remove'],
        },
      },
      {
        type: 'ResponseHeaderModifier',
        responseHeaderModifier: { set: [{ name: 'X-Answer', value: '50%' }], remove: ['X-Secret'] },
      },
    ],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  {
    matches: [{ path: { value: '/query' }, queryParams: [{ name: 'animal', value: 'whale' }] }],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  {
    matches: [{ path: { type: 'RegularExpression', value: '/re/[0-9]+' }, method: 'PUT' }],
    backendRefs: [{ name: 'v1', port: 80 }],
  },
  { matches: [{ path: { value: '/nobody' } }], backendRefs: [{ name: 'nobody', port: 80 }] },
  { matches: [{ path: { value: '/empty' } }], backendRefs: [{ name: 'empty', port: 80 }] },
  { matches: [{ path: { value: '/dead' } }], backendRefs: [{ name: 'dead', port: 80 }] },
  { matches: [{ path: { value: '/slow' } }], backendRefs: [{ name: 'v1', port: 80 }], timeouts: { request: '300ms' } },
];

const questions: (Omit<Ask, 'to'> & { note?: string })[] = [
  { path: '/exact' },
  { path: '/exact?x=1' },
  { path: '/exact/' },
  { path: '/v2' },
  { path: '/v2/' },
  { path: '/v2/example' },
  { path: '/v2example' },
  { path: '/anything', headers: { version: 'two' } },
  { path: '/anything' },
  { path: '/prefix/one/two?q=1' },
  { path: '/prefix/one' },
  { path: '/strip-prefix/three' },
  { path: '/strip-prefix' },
  { path: '/full/and/more?q=1' },
  { path: '/redirect/here?q=1' },
  { path: '/https/here' },
  { path: '/headers', headers: { 'x-set': 'old', 'x-add': 'old', 'x-remove': 'old' } },
  { path: '/query?animal=whale' },
  { path: '/query?animal=whaledolphin' },
  { path: '/query' },
  { path: '/re/123', method: 'PUT' },
  { path: '/re/123' },
  { path: '/re/abc', method: 'PUT' },
  { path: '/nobody' },
  { path: '/empty' },
  { path: '/dead' },
  { path: '/slow' },
  { path: '/exact', method: 'DELETE', note: 'denied by method' },
  { path: '/exact', method: 'HEAD' },
  { path: '/exact', method: 'POST', body: 'hello' },
  { path: '/private/x', note: 'denied by path' },
  { path: '/public/../private/x', note: 'denied after normalisation' },
  { path: '/public/%2e%2e/private/x', note: 'denied after normalisation of escapes' },
  {
    path: '/exact',
    as: spiffeId({ trustDomain: 'cluster.local', namespace: 'other', serviceAccount: 'client' }),
    note: 'of a namespace that is not allowed',
  },
  { path: '/token', headers: { 'x-token': 'no' }, note: 'denied by header' },
];

/** What both proxies must agree on. */
function essence({ status, headers, body }: Answer): unknown {
  const { location } = headers;
  return {
    status,
    location,
    answer: headers['x-answer'],
    secret: headers['x-secret'],
    body: status === 503 ? body.slice(0, 40) : body,
  };
}

test('our waypoint and Envoy agree', { skip: noEnvoy, timeout: 90_000 }, async (t) => {
  const [one, two, gone] = [ownAddress(), ownAddress(), ownAddress()];
  const echo = aService({ name: 'echo', vip: '10.96.0.1' });
  const v1 = aService({ name: 'v1', vip: '10.96.0.2' });
  const v2 = aService({ name: 'v2', vip: '10.96.0.3' });
  const empty = aService({ name: 'empty', vip: '10.96.0.4' });
  const dead = aService({ name: 'dead', vip: '10.96.0.5' });
  const mesh = aMesh({
    services: [echo, v1, v2, empty, dead],
    workloads: [
      aWorkload({ name: 'v1-0', ip: one, service: v1 }),
      aWorkload({ name: 'v2-0', ip: two, service: v2 }),
      aWorkload({ name: 'dead-0', ip: gone, service: dead, hbone: false }),
    ],
    routes: [aRoute('routes', [service('echo')], rules)],
    policies: [
      aPolicy('deny', {
        targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
        action: 'DENY',
        rules: [
          { to: [{ operation: { methods: ['DELETE'] } }] },
          { to: [{ operation: { paths: ['/private*'] } }] },
          { when: [{ key: 'request.headers[x-token]', values: ['no'] }] },
        ],
      }),
      aPolicy('allow', {
        targetRefs: [{ kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'waypoint' }],
        rules: [{ from: [{ source: { namespaces: ['shop'] } }] }],
      }),
    ],
  });
  const resources = waypointResources(mesh, aScope({ services: [echo] }));
  t.same(
    resources.faults.map(({ field }) => field),
    ['spec.rules[10].backendRefs[0]'],
    'one reference to nothing',
  );
  const certificates = testCertificates();
  const ours = await startWaypoint(t, 'native', resources, certificates);
  const portable = await startWaypoint(t, 'portable', resources, certificates);
  const envoy = await startWaypoint(t, 'envoy', resources, certificates);
  for (const [ip, name] of [
    [one, 'v1'],
    [two, 'v2'],
  ] as const) {
    const handler = (request: IncomingMessage, response: ServerResponse): void => {
      let body = '';
      request.on('data', (chunk: Buffer) => void (body += chunk.toString()));
      request.on('end', () => {
        const { 'x-set': set, 'x-add': add, 'x-remove': remove, host } = request.headers;
        const told = JSON.stringify({
          name,
          method: request.method,
          url: request.url,
          set,
          add,
          remove,
          host: request.url === '/three' ? host : undefined,
          body,
        });
        setTimeout(() => response.writeHead(200, { 'x-secret': 'yes' }).end(told), request.url?.startsWith('/slow') ? 2000 : 0);
      });
    };
    await startPod(t, ours, ip, backend, 8080, handler);
  }
  for (const question of questions) {
    const { note, ...ask } = question;
    const answerOf = async (lab: typeof ours): Promise<unknown> => essence(await lab.ask({ to: '10.96.0.1:80', ...ask }));
    const theirs = await answerOf(envoy);
    const what = `${ask.method ?? 'GET'} ${ask.path ?? '/'} ${note ?? ''}`;
    t.same(await answerOf(ours), theirs, what);
    t.same(await answerOf(portable), theirs, `${what} (portable)`);
  }
  t.comment(
    ours
      .output()
      .split('\n')
      .filter((line) => line.startsWith('['))
      .slice(0, 3)
      .join('\n'),
  );
});

test(
  "traffic to a pod's own address, HTTP and TCP: both find the pod and hold the policy of the waypoint",
  { skip: noEnvoy, timeout: 60_000 },
  async (t) => {
    const ip = ownAddress();
    const echo = aService({ name: 'echo', vip: '10.96.0.1' });
    const workload = aWorkload({ name: 'echo-0', ip, service: echo });
    const policies = [
      aPolicy('deny', {
        targetRefs: [{ kind: 'Gateway', group: 'gateway.networking.k8s.io', name: 'waypoint' }],
        action: 'DENY',
        rules: [
          { to: [{ operation: { methods: ['DELETE'], ports: ['8080'] } }] },
          { from: [{ source: { serviceAccounts: ['shop/bad'] } }] },
        ],
      }),
    ];
    const resources = waypointResources(
      aMesh({ services: [echo], workloads: [workload], policies }),
      aScope({ workloads: [workload] }),
    );
    const certificates = testCertificates();
    const ours = await startWaypoint(t, 'native', resources, certificates);
    const portable = await startWaypoint(t, 'portable', resources, certificates);
    const envoy = await startWaypoint(t, 'envoy', resources, certificates);
    const { tunnels } = await startPod(t, ours, ip, backend, 8080, (request, response) => void response.end(request.url));
    const redis = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => redis.listen(6379, ip, resolve));
    t.teardown(() => redis.close());
    const bad = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'bad' });
    for (const [name, lab] of Object.entries({ ours, portable, envoy })) {
      const got = await lab.ask({ to: `${ip}:8080`, path: '/x' });
      t.same([got.status, got.body], [200, '/x'], name);
      t.equal((await lab.ask({ to: `${ip}:8080`, method: 'DELETE' })).status, 403, `${name} denies by method`);
      t.equal((await lab.ask({ to: `${ip}:8080`, as: bad })).status, 403, `${name} denies by identity`);
      const socket = await lab.connect(`${ip}:6379`);
      socket.write(Buffer.from([1, 2, 3]));
      t.same(await new Promise((resolve) => socket.once('data', resolve)), Buffer.from([1, 2, 3]), `${name} carries TCP`);
      socket.destroy();
    }
    t.ok(tunnels.length > 1, 'through tunnels');
  },
);
