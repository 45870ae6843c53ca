// Heads of a backend that have no body: 1xx heads before its answer, switched protocols, 204.
import { createServer } from 'node:net';
import type { Test } from 'tap';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aScope, aService, aWorkload } from '../../controlplane/translate/envoy/mesh.ts';
import { endTunnels, ownAddress, startWaypoint, testOnBackends } from '../../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1:80';
const ABC = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc';
const PATIENCE = 5000;

/** Asks a backend that answers with `answer`; resolves with what came once it matches `until`. */
type AskRaw = (answer: string, until: RegExp, fields?: string) => Promise<string>;

async function setUp(t: Test, kind: Backend): Promise<AskRaw> {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const ip = ownAddress();
  let next = '';
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', () => socket.write(next));
    t.teardown(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(8080, ip, resolve));
  t.teardown(() => server.close());
  const echo = aService({ name: 'echo', vip: '10.96.0.1', ports: [{ port: 80, target: 8080, protocol: AppProtocol.HTTP11 }] });
  const mesh = aMesh({ services: [echo], workloads: [aWorkload({ name: 'echo-0', ip, service: echo })] });
  const lab = await startWaypoint(t, kind, waypointResources(mesh, aScope({ services: [echo] })));
  await endTunnels(reactor, lab.certificates, ip, pod);
  return async (answer, until, fields = '') => {
    next = answer;
    const client = await lab.connect(VIP);
    t.teardown(() => client.destroy());
    let text = '';
    client.on('data', (chunk: Buffer) => void (text += chunk.toString('latin1')));
    client.write(`GET / HTTP/1.1\r\nHost: echo\r\n${fields}\r\n`);
    for (const end = performance.now() + PATIENCE; !until.test(text); await new Promise((resolve) => setTimeout(resolve, 5)))
      if (performance.now() > end) throw new Error(`waited for ${until}; got ${JSON.stringify(text.slice(0, 1000))}`);
    return text;
  };
}

testOnBackends('an interim head goes on without what concerns the backend’s connection', { timeout: 30_000 }, async (t, kind) => {
  const ask = await setUp(t, kind);
  const hint =
    'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X, keep-alive\r\nX: y\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n';
  const text = await ask(hint + ABC, /abc$/u);
  t.match(text, /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n/u);
});

testOnBackends('a 204 that tells a length goes on without it', { timeout: 30_000 }, async (t, kind) => {
  const ask = await setUp(t, kind);
  const text = await ask('HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX: y\r\n\r\n', /\r\n\r\n/u);
  t.match(text, /^HTTP\/1\.1 204 No Content\r\nx: y\r\n/u);
  t.notMatch(text, /content-length/iu);
});

testOnBackends('a backend that sends interim heads without end is refused', { timeout: 30_000 }, async (t, kind) => {
  const ask = await setUp(t, kind);
  const hint = 'HTTP/1.1 103 Early Hints\r\n\r\n';
  t.match(await ask(hint.repeat(100) + ABC, /abc$/u), /^(?:HTTP\/1\.1 103 Early Hints\r\n\r\n){100}HTTP\/1\.1 200 /u);
  t.match(await ask(hint.repeat(101) + ABC, / 502 /u), /^(?:HTTP\/1\.1 103 Early Hints\r\n\r\n){100}HTTP\/1\.1 502 /u);
});

const ASKS = 'Connection: upgrade\r\nUpgrade: websocket\r\n';
const switchTo = (protocol: string, more = ''): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${protocol}\r\n${more}\r\nabc`;

testOnBackends('a protocol that nobody asked for is refused', { timeout: 60_000 }, async (t, kind) => {
  const ask = await setUp(t, kind);
  t.match(await ask(switchTo('websocket'), /\r\n\r\n/u), /^HTTP\/1\.1 502 /u, 'unasked');
  t.match(await ask(switchTo('other'), /\r\n\r\n/u, ASKS), /^HTTP\/1\.1 502 /u, 'another one');
  const unnamed = 'HTTP/1.1 101 Switching Protocols\r\n\r\nabc';
  t.match(await ask(unnamed, /\r\n\r\n/u, ASKS), /^HTTP\/1\.1 502 /u, 'which, is not said');
  const asked = await ask(switchTo('WebSocket', 'Content-Length: 0\r\n'), /abc$/u, ASKS);
  t.match(asked, /^HTTP\/1\.1 101 Switching Protocols\r\n/u, 'in any case of letters');
  t.notMatch(asked, /content-length/iu, 'a tunnel has no length');
});
