// A client that waits for leave to send its body (Expect: 100-continue, RFC 9110, section 10.1.1) gets it from the waypoint, once; who does not
// ask gets none. And what a waypoint says of itself.
import type http from 'node:http';
import type { Duplex } from 'node:stream';
import { test } from 'tap';
import { spiffeId } from '#shared/ids.ts';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aPolicy, aScope, aService, aWorkload } from '../controlplane/translate/envoy/mesh.ts';
import { ownAddress, startPod, startWaypoint, testOnBackends, type WaypointLab } from '../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1';
const PATIENCE = 5000;
/** How long a 100 would have had to come, ms. */
const SILENCE = 150;

async function setUp(
  t: Parameters<typeof startWaypoint>[0],
  kind: Backend,
): Promise<{ lab: WaypointLab; seen: http.IncomingHttpHeaders[] }> {
  const ip = ownAddress();
  const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 80, target: 8080 }] });
  const deny = aPolicy('deny', {
    targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
    action: 'DENY',
    rules: [{ to: [{ operation: { paths: ['/secret'] } }] }],
  });
  const mesh = aMesh({ services: [echo], workloads: [aWorkload({ name: 'echo-0', ip, service: echo })], policies: [deny] });
  const lab = await startWaypoint(t, kind, waypointResources(mesh, aScope({ services: [echo] })));
  const seen: http.IncomingHttpHeaders[] = [];
  await startPod(t, lab, ip, pod, 8080, (request, response) => {
    seen.push(request.headers);
    request.pipe(response);
  });
  return { lab, seen };
}

/** What came on a connection, and a wait for more of it. */
function reading(socket: Duplex): { text: () => string; until: (pattern: RegExp) => Promise<void> } {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  return {
    text: () => text,
    async until(pattern) {
      for (const end = performance.now() + PATIENCE; !pattern.test(text); await new Promise((done) => setTimeout(done, 5)))
        if (performance.now() > end) throw new Error(`waited for ${pattern}; got ${JSON.stringify(text)}`);
    },
  };
}

const head = (path: string, ...fields: string[]): string =>
  `${[`POST ${path} HTTP/1.1`, 'host: echo', 'content-length: 4', ...fields].join('\r\n')}\r\n\r\n`;
const count = (text: string, what: RegExp): number => text.match(what)?.length ?? 0;

testOnBackends(
  'who asks may send its body, who does not is told nothing before the answer',
  { timeout: 30_000 },
  async (t, kind) => {
    const { lab, seen } = await setUp(t, kind);
    const socket = await lab.connect(`${VIP}:80`);
    const { text, until } = reading(socket);
    socket.write(head('/a', 'expect: 100-continue'));
    await until(/^HTTP\/1\.1 100 Continue\r\n\r\n/u);
    t.notMatch(text(), / 200 /u, 'before the body');
    socket.write('body');
    await until(/HTTP\/1\.1 200 OK[^]*body/u);
    t.equal(count(text(), /HTTP\/1\.1 100/gu), 1, 'once');
    t.equal(seen[0]?.expect, undefined, 'the pod is not asked again');

    socket.write(head('/b'));
    await new Promise((done) => setTimeout(done, SILENCE));
    socket.write('more');
    await until(/more/u);
    t.equal(count(text(), /HTTP\/1\.1 100/gu), 1, 'none unasked, on the same connection');
    t.equal(count(text(), /HTTP\/1\.1 200/gu), 2);
    socket.destroy();
  },
);

testOnBackends('a request that is refused gets its refusal and no leave to send', { timeout: 30_000 }, async (t, kind) => {
  const { lab, seen } = await setUp(t, kind);
  const socket = await lab.connect(`${VIP}:80`);
  const { text, until } = reading(socket);
  socket.write(head('/secret', 'expect: 100-continue'));
  await until(/HTTP\/1\.1 403/u);
  t.notMatch(text(), /100 Continue/u);
  t.equal(seen.length, 0);
  socket.destroy();
});

for (const backend of BACKENDS)
  test(`the log and the dump name the backend: ${backend}`, { timeout: 30_000 }, async (t) => {
    const { lab } = await setUp(t, backend);
    t.match(lab.output(), new RegExp(`waypoint is up.*backend="?${backend}`, 'u'));
    const answer = await fetch(`http://127.0.0.1:${lab.adminPort}/config_dump`);
    t.match(await answer.json(), { dataPlane: { backend } });
  });
