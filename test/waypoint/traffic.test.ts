// Our waypoint with live HTTP in one process: bodies, keep-alive, HTTP/2, upgrades, and configuration that changes
// while connections are open.
import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import http2 from 'node:http2';
import type { Duplex } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { ListenerSchema } from '#shared/gen/envoy/config/listener/v3/listener_pb.ts';
import { AppProtocol, type Service } from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import { type Backend, createReactor } from '#shared/reactor/create.ts';
import type { EnvoyResources } from '../../controlplane/translate/envoy/model.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aPolicy, aRoute, aScope, aService, aWorkload, service } from '../controlplane/translate/envoy/mesh.ts';
import {
  endTunnels,
  eventually,
  ownAddress,
  startPod,
  startWaypoint,
  testOnBackends,
  type WaypointLab,
} from '../harness/waypoint-lab.ts';

const backend = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1';

type Teardown = Parameters<typeof startWaypoint>[0];

/** One service with one pod behind a waypoint. */
async function setUp(
  t: Teardown,
  kind: Backend,
  ports: { port: number; target: number; protocol?: AppProtocol }[],
  handler: http.RequestListener = (_request, response) => void response.end('ok'),
): Promise<{
  lab: WaypointLab;
  ip: string;
  echo: Service;
  resources: (parts?: Parameters<typeof aMesh>[0]) => EnvoyResources;
  peers: { uris: readonly string[] }[];
}> {
  const ip = ownAddress();
  const echo = aService({ name: 'echo', vip: VIP, ports });
  const resources = (parts: Parameters<typeof aMesh>[0] = {}): EnvoyResources =>
    waypointResources(
      aMesh({ services: [echo], workloads: [aWorkload({ name: 'echo-0', ip, service: echo })], ...parts }),
      aScope({ services: [echo] }),
    );
  const lab = await startWaypoint(t, kind, resources());
  const { tunnels } = await startPod(t, lab, ip, backend, ports[0]?.target ?? 8080, handler);
  return { lab, ip, echo, resources, peers: tunnels };
}

const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

testOnBackends('bodies of every framing arrive whole, both ways', { timeout: 60_000 }, async (t, kind) => {
  const { lab, peers } = await setUp(t, kind, [{ port: 80, target: 8080 }], (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => void chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      response.setHeader('x-hash', hash(body));
      if (request.headers['x-length'] !== undefined) response.setHeader('content-length', body.length);
      response.end(body.toString('latin1'), 'latin1');
    });
  });
  for (const size of [0, 1, 16_384, 3_000_000]) {
    const body = Buffer.from(
      randomBytes(size / 2)
        .toString('hex')
        .padEnd(size, 'x'),
    );
    for (const headers of [{ 'content-length': String(size), 'x-length': '1' }, { 'transfer-encoding': 'chunked' }] as Record<
      string,
      string
    >[]) {
      const answer = await lab.ask({ to: `${VIP}:80`, method: 'POST', headers, body });
      t.equal(answer.status, 200);
      t.equal(answer.headers['x-hash'], hash(body), `${size} bytes up`);
      t.equal(hash(Buffer.from(answer.body)), hash(body), `${size} bytes down`);
    }
  }
  t.match(peers[0]?.uris, ['spiffe://cluster.local/ns/shop/sa/waypoint'], 'the pod sees the identity of the waypoint');
});

testOnBackends(
  'requests of one connection share a connection to the backend, pipelined ones keep their order',
  { timeout: 30_000 },
  async (t, kind) => {
    const ports = new Set<number | undefined>();
    const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }], (request, response) => {
      ports.add(request.socket.remotePort);
      setTimeout(() => response.end(request.url), request.url === '/1' ? 100 : 0);
    });
    const socket = await lab.connect(`${VIP}:80`);
    const done = new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes('/3')) resolve(text);
      });
    });
    socket.write([1, 2, 3].map((n) => `GET /${n} HTTP/1.1\r\nhost: echo\r\n\r\n`).join(''));
    const bodies = [...(await done).matchAll(/\r\n\r\n(\/\d)/gu)].map(([, body]) => body);
    t.same(bodies, ['/1', '/2', '/3']);
    t.equal(ports.size, 1, 'one connection to the backend');
    socket.destroy();
  },
);

testOnBackends('what is no request is answered once and the connection ends', { timeout: 30_000 }, async (t, kind) => {
  const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }]);
  for (const bytes of [
    'GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
    'GET / HTTP/1.1\r\nhost : a\r\n\r\n',
    'GET / HTTP/1.1\r\n\r\n',
    '\0\0\0\0\0\0\0\0 what\r\n\r\n',
  ]) {
    const socket = await lab.connect(`${VIP}:80`);
    socket.end(bytes);
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (chunk: Buffer) => void (text += chunk.toString()));
      socket.on('close', () => resolve(text));
      socket.on('end', () => resolve(text));
    });
    t.match(answer, /^HTTP\/1\.1 400 .*\r\n(.*\r\n)*connection: close\r\n/u, JSON.stringify(bytes.slice(0, 30)));
  }
});

testOnBackends('a backend that goes away is a 503 or a cut body, never a silent end', { timeout: 30_000 }, async (t, kind) => {
  const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }], (request, response) => {
    if (request.url === '/before') return void request.socket.destroy();
    response.writeHead(200, { 'content-length': 100 });
    response.write('half');
    setTimeout(() => request.socket.destroy(), 50);
  });
  const before = await lab.ask({ to: `${VIP}:80`, path: '/before' });
  t.equal(before.status, 503);
  t.match(before.body, /^upstream connect error or disconnect\/reset before headers/u);
  await t.rejects(lab.ask({ to: `${VIP}:80`, path: '/during' }), 'the client sees that the body is cut');
  await eventually(async () => {
    if (!/"GET \/during HTTP\/1\.1" 200 UC /u.test(lab.output())) throw new Error(lab.output());
  });
});

testOnBackends('a client that leaves ends the request at the backend', { timeout: 30_000 }, async (t, kind) => {
  const gone = Promise.withResolvers<void>();
  const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }], (request, response) => {
    response.writeHead(200);
    response.write('x');
    request.socket.on('close', () => gone.resolve());
  });
  const socket = await lab.connect(`${VIP}:80`);
  socket.write('GET / HTTP/1.1\r\nhost: echo\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  socket.destroy();
  await gone.promise;
  await eventually(async () => {
    if (!/"GET \/ HTTP\/1\.1" 200 DC downstream_remote_disconnect/u.test(lab.output())) throw new Error(lab.output());
  });
});

testOnBackends('HTTP/2 with prior knowledge inside the tunnel, to HTTP/1.1 behind', { timeout: 30_000 }, async (t, kind) => {
  const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }], (request, response) => void request.pipe(response));
  const session = http2.connect(`http://${VIP}:80`, { createConnection: await connector(lab) });
  const answers = await Promise.all(
    [1, 2, 3].map(
      (n) =>
        new Promise<string>((resolve, reject) => {
          const stream = session.request({ ':method': 'POST', ':path': `/${n}` });
          let text = '';
          stream.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
          stream.on('end', () => resolve(text));
          stream.on('error', reject);
          stream.end(`body ${n}`);
        }),
    ),
  );
  t.same(answers, ['body 1', 'body 2', 'body 3']);
  session.destroy();
});

async function connector(lab: WaypointLab): Promise<() => Duplex> {
  const socket = await lab.connect(`${VIP}:80`);
  return () => socket;
}

testOnBackends('gRPC ports: HTTP/2 on both sides, with trailers', { timeout: 30_000 }, async (t, kind) => {
  const ip = ownAddress();
  const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 80, target: 7070, protocol: AppProtocol.GRPC }] });
  const resources = waypointResources(
    aMesh({ services: [echo], workloads: [aWorkload({ name: 'e', ip, service: echo })] }),
    aScope({ services: [echo] }),
  );
  const lab = await startWaypoint(t, kind, resources);
  const server = http2.createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/grpc' });
    response.addTrailers({ 'grpc-status': '7' });
    response.end('answer');
  });
  await new Promise<void>((resolve) => server.listen(7070, ip, resolve));
  t.teardown(() => void server.close());
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  await endTunnels(reactor, lab.certificates, ip, backend);
  const session = http2.connect(`http://${VIP}:80`, { createConnection: await connector(lab) });
  const stream = session.request({ ':method': 'POST', ':path': '/svc/m', 'content-type': 'application/grpc', te: 'trailers' });
  const trailers = await new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
    stream.on('trailers', resolve);
    stream.on('error', reject);
    stream.resume();
    stream.end('ask');
  });
  t.equal(trailers['grpc-status'], '7');
  session.destroy();
  const metrics = await (await fetch(`http://127.0.0.1:${lab.metricsPort}/metrics`)).text();
  t.match(metrics, /istio_requests_total\{[^}]*request_protocol="grpc"[^}]*grpc_response_status="7"\} 1/u);
});

testOnBackends('a websocket is upgraded and then carries bytes', { timeout: 30_000 }, async (t, kind) => {
  const { lab, ip } = await setUp(t, kind, [{ port: 80, target: 8080 }]);
  const server = http.createServer();
  server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello ');
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(8090, ip, resolve));
  t.teardown(() => server.close());
  const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 80, target: 8090 }] });
  await lab.update(
    waypointResources(
      aMesh({ services: [echo], workloads: [aWorkload({ name: 'e', ip, service: echo })] }),
      aScope({ services: [echo] }),
    ),
  );
  const socket = await lab.connect(`${VIP}:80`);
  let text = '';
  socket.on('data', (chunk: Buffer) => void (text += chunk.toString()));
  socket.write('GET / HTTP/1.1\r\nhost: echo\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n');
  await eventually(async () => {
    if (!text.includes('hello ')) throw new Error(text);
  });
  t.match(text, /^HTTP\/1\.1 101 /u);
  socket.write('there');
  await eventually(async () => {
    if (!text.endsWith('hello there')) throw new Error(text);
  });
  socket.destroy();
});

/** One request on a connection that stays open. */
async function statusOf(socket: Duplex, path: string): Promise<number> {
  const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: echo\r\n\r\n`);
  return Number(/^HTTP\/1\.1 (\d+)/u.exec((await answer).toString())?.[1]);
}

testOnBackends(
  'a changed route holds for the next request of an open connection; a bad listener changes nothing',
  { timeout: 30_000 },
  async (t, kind) => {
    const { lab, resources } = await setUp(t, kind, [{ port: 80, target: 8080 }]);
    const socket = await lab.connect(`${VIP}:80`);
    t.equal(await statusOf(socket, '/'), 200);
    const routes = [
      aRoute(
        'r',
        [service('echo')],
        [{ matches: [{ path: { type: 'Exact', value: '/only' } }], backendRefs: [{ name: 'echo', port: 80 }] }],
      ),
    ];
    const next = resources({ routes });
    await lab.update(next);
    t.equal(await statusOf(socket, '/'), 404);
    t.equal(await statusOf(socket, '/only'), 200);
    const bad = next.listeners.map((listener) =>
      listener.name === 'main_internal' ? create(ListenerSchema, { ...listener, statPrefix: 'x' }) : listener,
    );
    await lab.update({ ...next, listeners: bad });
    await eventually(async () => {
      if (!/main_internal[^\n]*stat_prefix: not supported/u.test(lab.output())) throw new Error('no NACK');
    });
    t.equal((await lab.ask({ to: `${VIP}:80`, path: '/only' })).status, 200, 'the last good listener serves on');
    await lab.update(resources({ workloads: [] }));
    const none = await lab.ask({ to: `${VIP}:80` });
    t.equal(none.status, 503);
    t.equal(none.body, 'no healthy upstream');
    socket.destroy();
  },
);

testOnBackends(
  'a policy that comes while a connection is open holds for its next request',
  { timeout: 30_000 },
  async (t, kind) => {
    const { lab, resources } = await setUp(t, kind, [{ port: 80, target: 8080 }]);
    const one = await lab.connect(`${VIP}:80`);
    const session = http2.connect(`http://${VIP}:80`, { createConnection: await connector(lab) });
    const two = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':path': '/secret' });
        stream.on('response', (response) => resolve(response[':status'])).on('error', reject);
        stream.resume();
        stream.end();
      });
    t.same([await statusOf(one, '/secret'), await two()], [200, 200]);
    const deny = aPolicy('deny', {
      targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
      action: 'DENY',
      rules: [{ to: [{ operation: { paths: ['/secret'] } }] }],
    });
    await lab.update(resources({ policies: [deny] }));
    await eventually(async () => {
      if ((await lab.ask({ to: `${VIP}:80`, path: '/secret' })).status !== 403) throw new Error('not yet');
    });
    t.same([await statusOf(one, '/secret'), await two()], [403, 403], 'HTTP/1.1 and HTTP/2');
    one.destroy();
    session.destroy();
  },
);

testOnBackends(
  'a drain lets requests finish, takes new tunnels until ztunnels have heard of it, and ends',
  { timeout: 30_000 },
  async (t, kind) => {
    const { lab } = await setUp(
      t,
      kind,
      [{ port: 80, target: 8080 }],
      (_request, response) => void setTimeout(() => response.end('late'), 300),
    );
    const idle = await lab.connect(`${VIP}:80`);
    t.equal(await statusOf(idle, '/'), 200);
    const under = lab.ask({ to: `${VIP}:80` });
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stopped = lab.stop();
    t.equal(await statusOf(idle, '/'), 200, 'a kept connection has its next request answered, not cut');
    const answer = await under;
    t.same([answer.status, answer.body, answer.headers.connection], [200, 'late', 'close']);
    t.equal((await lab.ask({ to: `${VIP}:80` })).status, 200, 'of a ztunnel that has not heard yet');
    await stopped;
    await t.rejects(lab.connect(`${VIP}:80`));
  },
);

testOnBackends(
  'HTTP/2 requests that no request line could hold are refused, and the connection lives on',
  { timeout: 30_000 },
  async (t, kind) => {
    const { lab } = await setUp(t, kind, [{ port: 80, target: 8080 }]);
    const session = http2.connect(`http://${VIP}:80`, { createConnection: await connector(lab) });
    const statusOf2 = (headers: http2.OutgoingHttpHeaders): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const stream = session.request(headers);
        stream.on('response', (response) => resolve(response[':status']));
        stream.on('error', reject);
        stream.resume();
        stream.end();
      });
    t.equal(await statusOf2({ ':path': '/\u00e9' }), 400);
    t.equal(await statusOf2({ ':path': '/', ':authority': 'a b' }), 400);
    t.equal(await statusOf2({ ':path': '/' }), 200);
    session.destroy();
  },
);
