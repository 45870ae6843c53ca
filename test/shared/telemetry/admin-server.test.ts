import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { quitRoute, readinessRoute, withIndex } from '#shared/telemetry/admin-routes.ts';
import { AdminServer, json, LOCALHOST } from '#shared/telemetry/admin-server.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import { LevelFilter, loggingRoute } from '#shared/telemetry/log-levels.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { metricsRoutes } from '#shared/telemetry/metrics-server.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { profileRoutes } from '#shared/telemetry/profile.ts';

t.setTimeout(20_000);

const lines: string[] = [];
const log = new Logging({ sink: { write: (line) => lines.push(line) } }).scope('admin');

async function serve(t: Tap, routes: readonly AdminRoute[]): Promise<AdminServer> {
  const server = new AdminServer(routes, log);
  await server.listen({ port: 0, hosts: LOCALHOST });
  t.teardown(() => server.close());
  return server;
}

type Tap = Pick<typeof t, 'teardown'>;

interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  body: Buffer;
  text: string;
}

async function ask(
  server: AdminServer,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string; host?: string } = {},
): Promise<Answer> {
  const { method = 'GET', headers = {}, host = '127.0.0.1' } = options;
  const sent = request({ port: server.port, host, path, method, headers });
  sent.end(options.body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const body = await buffer(response);
  return { status: response.statusCode ?? 0, headers: response.headers, body, text: body.toString() };
}

t.test('routes, methods, faults', async (t) => {
  const server = await serve(t, [
    { path: '/json', handle: ({ url }) => json({ q: url.searchParams.get('q') }) },
    { path: '/below/', handle: ({ url }) => ({ body: url.pathname }) },
    { path: '/post', methods: ['POST'], handle: async (asked) => ({ body: await asked.body(10) }) },
    { path: '/fault', handle: () => Promise.reject(new MeshError('not_found', 'no such proxy: x')) },
    { path: '/crash', handle: () => { throw new Error('bug'); } }, // prettier-ignore
  ]);
  t.same(JSON.parse((await ask(server, '/json?q=1')).text), { q: '1' });
  t.equal((await ask(server, '/below/a/b')).text, '/below/a/b');
  t.equal((await ask(server, '/below')).status, 404);
  t.equal((await ask(server, '/nowhere')).status, 404);
  const wrong = await ask(server, '/json', { method: 'POST', body: 'x' });
  t.equal(wrong.status, 405);
  t.equal(wrong.headers.allow, 'GET');
  const head = await ask(server, '/json', { method: 'HEAD' });
  t.same([head.status, head.body.length, head.headers['content-length']], [200, 0, '16']);
  t.equal((await ask(server, '/post', { method: 'POST', body: 'hello' })).text, 'hello');
  const large = await ask(server, '/post', { method: 'POST', body: 'hello hello hello' });
  t.same([large.status, large.text], [400, 'the body is larger than 10 bytes\n']);
  t.same([(await ask(server, '/fault')).status, (await ask(server, '/fault')).text], [404, 'no such proxy: x\n']);
  t.equal((await ask(server, '/crash')).status, 500);
  t.match(lines.join(''), /admin handler failed\tpath="\/crash" error="bug"/u);
});

t.test('both loopback families, and a taken port is named', async (t) => {
  const server = await serve(t, [{ path: '/', handle: () => ({ body: 'ok' }) }]);
  t.equal((await ask(server, '/')).text, 'ok');
  const six = await ask(server, '/', { host: '::1' }).catch((error: unknown) => error);
  if (!(six instanceof Error)) t.equal((six as Answer).text, 'ok');
  const second = new AdminServer([], log);
  await t.rejects(second.listen({ port: server.port, hosts: ['127.0.0.1'] }), {
    code: 'invalid_config',
    message: new RegExp(`cannot listen on 127.0.0.1 port ${server.port}: .*EADDRINUSE`, 'u'),
  });
});

t.test('a caller that does not finish its headers is dropped', async (t) => {
  const server = await serve(t, []);
  const socket = connect(server.port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n');
  const start = performance.now();
  socket.resume();
  await once(socket, 'close');
  const took = performance.now() - start;
  t.ok(took > 1500 && took < 5000, `${took} ms`);
});

t.test('a caller that does not finish its body is dropped', async (t) => {
  const server = await serve(t, [{ path: '/', methods: ['POST'], handle: async (request) => ({ body: await request.body() }) }]);
  const socket = connect(server.port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf');
  const start = performance.now();
  socket.resume();
  await once(socket, 'close');
  const took = performance.now() - start;
  t.ok(took > 4000 && took < 9000, `${took} ms`);
});

t.test('closing waits for nobody long', async (t) => {
  const server = new AdminServer([{ path: '/slow', handle: () => new Promise(() => undefined) }], log);
  await server.listen({ port: 0, hosts: ['127.0.0.1'] });
  const hanging = ask(server, '/slow').catch((error: unknown) => error);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const start = performance.now();
  await server.close();
  t.ok(performance.now() - start < 3000);
  t.ok((await hanging) instanceof Error);
});

t.test('readiness lists what is pending', async (t) => {
  const readiness = new Readiness();
  const blocks = [readiness.block('xds'), readiness.block('proxy')];
  const server = await serve(t, [readinessRoute(readiness)]);
  const pending = await ask(server, '/healthz/ready');
  t.same([pending.status, pending.text], [500, 'not ready, pending: proxy, xds\n']);
  for (const block of blocks) block[Symbol.dispose]();
  const ready = await ask(server, '/healthz/ready');
  t.same([ready.status, ready.text], [200, 'ready\n']);
});

t.test('quit and logging are POST only', async (t) => {
  const reasons: string[] = [];
  const filter = new LevelFilter('info');
  const server = await serve(t, withIndex('test', [quitRoute((why) => reasons.push(why)), loggingRoute(filter)]));
  for (const path of ['/quitquitquit', '/logging?level=off']) t.equal((await ask(server, path)).status, 405);
  t.equal((await ask(server, '/logging?level=xds=debug', { method: 'POST' })).text, 'current log level is xds=debug,info\n');
  t.equal((await ask(server, '/logging', { method: 'POST' })).text, 'current log level is xds=debug,info\n');
  t.equal((await ask(server, '/logging?reset', { method: 'POST' })).text, 'current log level is info\n');
  for (const query of ['level=loud', 'level=xds', 'xds', 'level=']) {
    const refused = await ask(server, `/logging?${query}`, { method: 'POST' });
    t.equal(refused.status, 400, query);
    t.match(refused.text, /usage: POST \/logging/u);
  }
  t.same(reasons, []);
  t.equal((await ask(server, '/quitquitquit', { method: 'POST' })).text, 'shutdown now\n');
  await new Promise((resolve) => setImmediate(resolve));
  t.same(reasons, ['/quitquitquit']);
  t.match((await ask(server, '/')).text, /POST \/quitquitquit/u);
});

t.test('metrics in the form and compression that was asked for', async (t) => {
  const metrics = new Metrics();
  const family = metrics.counter('x_total', 'X', ['n']);
  for (let i = 0; i < 100; i += 1) family.add(1, `n${i}`);
  const server = await serve(t, metricsRoutes(metrics));
  const plain = await ask(server, '/stats/prometheus', { method: 'POST' });
  t.match(plain.headers['content-type'], /^text\/plain/u);
  for (const [encoding, decode] of [
    ['gzip', gunzipSync],
    ['br', brotliDecompressSync],
    ['deflate', inflateSync],
    ['zstd', zstdDecompressSync],
  ] as const) {
    const answer = await ask(server, '/metrics', { headers: { 'accept-encoding': encoding } });
    t.equal(answer.headers['content-encoding'], encoding);
    t.equal(decode(answer.body).toString(), plain.text, encoding);
  }
  for (const none of ['identity', 'gzip;q=0', 'gzip;q=0.000, identity', 'unknown'])
    t.equal(
      (await ask(server, '/metrics', { headers: { 'accept-encoding': none } })).headers['content-encoding'],
      undefined,
      none,
    );
  const open = await ask(server, '/metrics', { headers: { accept: 'application/openmetrics-text;version=1.0.0' } });
  t.match(open.headers['content-type'], /^application\/openmetrics-text; version=1.0.0/u);
  t.ok(open.text.endsWith('# EOF\n'));
});

t.test('profiles', async (t) => {
  const server = await serve(t, profileRoutes());
  for (const seconds of ['0', '301', 'x', '1.5'])
    t.equal((await ask(server, `/debug/pprof/profile?seconds=${seconds}`)).status, 400, seconds);
  const taking = ask(server, '/debug/pprof/profile?seconds=1');
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal((await ask(server, '/debug/pprof/heap')).status, 503, 'one at a time');
  const profile = JSON.parse((await taking).text) as { nodes: unknown[]; endTime: number; startTime: number };
  t.ok(profile.nodes.length > 0);
  t.ok(profile.endTime - profile.startTime >= 900_000);
  const heap = await ask(server, '/debug/pprof/heap');
  t.equal(heap.status, 200);
  t.match(heap.text.slice(0, 100), /^\{"snapshot":/u);
});

t.test('a Unix socket with a mode; one left behind is replaced, and gone at the end', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-admin-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'admin.sock');
  const routes = [{ path: '/', handle: () => ({ body: 'ok' }) }];
  const abandoned = new AdminServer(routes, log);
  await abandoned.listen({ path, mode: 0o666 });
  const server = new AdminServer(routes, log);
  await server.listen({ path, mode: 0o600 });
  t.equal((await stat(path)).mode & 0o777, 0o600);
  const sent = request({ socketPath: path, path: '/' });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  t.equal((await buffer(response)).toString(), 'ok');
  await server.close();
  await t.rejects(stat(path), { code: 'ENOENT' });
  await abandoned.close();
});
