// Whole exchanges, through our waypoint and through a real Envoy with the same configuration: when the route's time runs, what passes an
// upgrade, what becomes of a backend that answers early, and what is told of requests that are none.
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { spiffeId } from '#shared/ids.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aRoute, aScope, aService, aWorkload, service } from '../../controlplane/translate/envoy/mesh.ts';
import { noEnvoy } from '../../harness/envoy.ts';
import { socketStream } from '../../harness/stream-pair.ts';
import { endTunnels, ownAddress, startWaypoint, testCertificates, type WaypointLab } from '../../harness/waypoint-lab.ts';

const pod = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const ROUTED = '10.96.0.1:80';
const PLAIN = '10.96.0.2:80';
const EARLY_HTTP2 = '10.96.0.2:81';
const EARLY = '10.96.0.2:82';
const TIMEOUT = 300;
/** Milliseconds in which all is over. */
const PATIENCE = 1200;

/** What is sent, with pauses in milliseconds between. */
type Sent = readonly (string | number)[];

const head = (line: string, fields = ''): string => `${line} HTTP/1.1\r\nhost: a\r\n${fields}\r\n`;
const UPGRADE = 'connection: upgrade\r\nupgrade: websocket\r\n';
const UPLOAD = 'content-length: 4\r\n';
const EXCHANGES: readonly (readonly [what: string, to: string, sent: Sent])[] = [
  ['an upload longer than the route allows', ROUTED, [head('POST /timed', UPLOAD), 'ab', 2 * TIMEOUT, 'cd']],
  ['a silent backend', ROUTED, [head('GET /timed/silent')]],
  ['a backend that never ends the handshake', ROUTED, [head('GET /hole')]],
  ['an upgrade longer than the route allows', ROUTED, [head('GET /timed', UPGRADE), 'one', 2 * TIMEOUT, 'two']],
  ['bytes right behind an upgrade', PLAIN, [`${head('GET /', UPGRADE)}one`, 'two']],
  ['bytes before the 101', PLAIN, [head('GET /late', UPGRADE), 50, 'one', 200, 'two']],
  ['an early answer over HTTP/1.1', EARLY, [head('POST /early', UPLOAD), 'ab', 200, 'cd']],
  ['an early answer over HTTP/2', EARLY_HTTP2, [head('POST /early', UPLOAD), 'ab', 200, 'cd']],
  ['a head that is none', PLAIN, [head('GET /', 'bad field\r\n')]],
  ['a body that is none', PLAIN, [head('POST /', 'transfer-encoding: chunked\r\n'), 'zz\r\n']],
  ...['POST', 'PUT', 'PATCH', 'OPTIONS', 'GET', 'DELETE', 'TRACE'].map(
    (method) => [`${method} without a body`, PLAIN, [head(`${method} /${method}`)]] as const,
  ),
];

/** Answers with the length that a request announces; takes upgrades, those of /late later. */
function plainBackend(): net.Server {
  const server = http.createServer((request, response) => {
    request.on('error', () => undefined);
    request.resume().on('end', () => {
      if (request.url !== '/timed/silent') response.end(request.headers['content-length'] ?? 'none');
    });
  });
  server.on('upgrade', (request, socket, first) => {
    socket.on('error', () => undefined);
    const answer = (): void => {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${UPGRADE}\r\n`);
      socket.write(first);
      socket.pipe(socket);
    };
    setTimeout(answer, request.url === '/late' ? 150 : 0);
  });
  return server;
}

/** Answers when the first octets have come; tells whether others follow. */
function earlyBackend(heard: (what: string) => void): net.Server {
  return net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
      socket.on('data', () => heard('HTTP/1.1 goes on'));
      socket.on('close', () => heard('HTTP/1.1 is cut'));
    });
  });
}

function earlyHttp2Backend(heard: (what: string) => void): net.Server {
  const ignore = (): void => undefined;
  return net.createServer((socket) => {
    socket.on('error', () => undefined);
    const onStream = (stream: Http2Stream): void => {
      const onEnd = (): void => heard('HTTP/2 goes on');
      const onClose = ({ kind }: CloseReason): void => void (kind === 'reset' && heard('HTTP/2 is cut'));
      stream.start({ onData: ignore, onEnd, onDrain: ignore, onClose });
      stream.respond(200, [['content-length', '0']], true);
    };
    void new Http2Session(socketStream(socket), { role: 'server', clock: systemClock, onStream });
  });
}

async function startBackends(t: Test, ip: string, heard: (what: string) => void): Promise<void> {
  for (const [port, server] of [
    [8080, plainBackend()],
    [8081, earlyHttp2Backend(heard)],
    [8082, earlyBackend(heard)],
  ] as const) {
    await new Promise<void>((resolve) => server.listen(port, ip, resolve));
    t.teardown(() => server.close());
  }
}

/** Takes connections for tunnels and says nothing. */
async function startHole(t: Test, ip: string): Promise<void> {
  const hole = net.createServer((socket) => {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
  });
  await new Promise<void>((resolve) => hole.listen(15_008, ip, resolve));
  t.teardown(() => hole.close());
}

/** Statuses and bodies that a client gets. */
async function answerOf(lab: WaypointLab, to: string, sent: Sent): Promise<string> {
  const socket = await lab.connect(to);
  let text = '';
  socket.on('data', (chunk: Buffer) => void (text += chunk.toString('latin1')));
  for (const part of sent) await (typeof part === 'number' ? sleep(part) : void socket.write(part));
  await sleep(PATIENCE);
  socket.destroy();
  const [first = '', ...rest] = text.split('\r\n\r\n');
  const status = first.slice(9, 12);
  // Texts of refusals are each waypoint's own.
  return status === '400' ? status : `${status} ${rest.join('|')}`;
}

/** Request, status and flag of the lines about refused requests. */
const toldBy = (lab: WaypointLab): string[] =>
  Array.from(lab.output().matchAll(/"([^"]*)" (400 \S+)/gu), ([, request, status]) => `${request} ${status}`).sort();

test('whole exchanges go as with Envoy', { skip: noEnvoy, timeout: 60_000 }, async (t) => {
  const certificates = testCertificates();
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const outcomes = await Promise.all(
    (['envoy', ...BACKENDS] as const).map(async (kind) => {
      const [ip, hole] = [ownAddress(), ownAddress()];
      const heard: string[] = [];
      await startBackends(t, ip, (what) => void heard.push(what));
      await endTunnels(reactor, certificates, ip, pod);
      await startHole(t, hole);
      const routed = aService({ name: 'routed', vip: '10.96.0.1' });
      const plain = aService({
        name: 'plain',
        vip: '10.96.0.2',
        ports: [
          { port: 80, target: 8080 },
          { port: 81, target: 8081, protocol: AppProtocol.HTTP2 },
          { port: 82, target: 8082 },
        ],
      });
      const nowhere = aService({ name: 'nowhere', vip: '10.96.0.3' });
      const timeouts = { request: `${TIMEOUT}ms` };
      const rules = [
        { matches: [{ path: { value: '/timed' } }], backendRefs: [{ name: 'plain', port: 80 }], timeouts },
        { matches: [{ path: { value: '/hole' } }], backendRefs: [{ name: 'nowhere', port: 80 }], timeouts },
      ];
      const mesh = aMesh({
        services: [routed, plain, nowhere],
        workloads: [
          aWorkload({ name: 'plain-0', ip, service: plain }),
          aWorkload({ name: 'nowhere-0', ip: hole, service: nowhere }),
        ],
        routes: [aRoute('routes', [service('routed')], rules)],
      });
      const resources = waypointResources(mesh, aScope({ services: [routed, plain] }));
      const lab = await startWaypoint(t, kind, resources, certificates);
      const answers = await Promise.all(EXCHANGES.map(([, to, sent]) => answerOf(lab, to, sent)));
      return { kind, answers, heard: heard.sort(), told: toldBy(lab) };
    }),
  );
  const [envoy, ...ours] = outcomes;
  for (const { kind, answers, heard, told } of ours) {
    for (const [index, [what]] of EXCHANGES.entries()) t.equal(answers[index], envoy?.answers[index], `${kind}: ${what}`);
    t.same(heard, envoy?.heard, `${kind}: backends that answer early`);
    t.same(told, envoy?.told, `${kind}: the access log`);
  }
});
