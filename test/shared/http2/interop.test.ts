// Our HTTP/2 beside implementations of others: node:http2 (nghttp2), curl, nghttp, h2load, grpc-js.
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as nodeHttp2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { test } from 'tap';
import { header, type HeaderList } from '#shared/http2/headers.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import { answer, echoStream, ourClient, ourServer, writeAll } from '../../harness/http2-peers.ts';

const run = promisify(execFile);

/** False when the tool is there: the `skip` option of a test. */
function missing(tool: string): string | false {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return false;
  } catch {
    return `${tool} is not installed`;
  }
}

test('node:http2 client: body, headers of all octets, trailers', async (t) => {
  await using server = await ourServer(echoStream);
  const session = nodeHttp2.connect(`http://127.0.0.1:${server.port}`, { maxSessionMemory: 100 });
  t.teardown(() => session.destroy());
  const payload = randomBytes(3_000_000);
  const fetch = async (n: number): Promise<void> => {
    const request = session.request(
      { ':method': 'POST', ':path': `/p/${n}`, 'x-many': '~\u00e9'.repeat(n * 30 + 1) },
      { waitForTrailers: true },
    );
    request.on('wantTrailers', () => request.sendTrailers({ 'x-sum': `${n}` }));
    request.end(payload);
    const [head] = (await once(request, 'response')) as [nodeHttp2.IncomingHttpHeaders];
    t.equal(head['x-path'], `/p/${n}`);
    t.equal(head['x-echo-x-many'], '~\u00e9'.repeat(n * 30 + 1));
    const trailers = once(request, 'trailers');
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    t.ok(Buffer.concat(chunks).equals(payload));
    t.equal(((await trailers) as [nodeHttp2.IncomingHttpHeaders])[0]['x-sum'], `${n}`);
  };
  await Promise.all([0, 1, 2, 3, 4, 5].map(fetch));
  await fetch(7);
});

test('node:http2 server: body, dynamic table, trailers, reset, goaway', async (t) => {
  const server = nodeHttp2.createServer({ settings: { headerTableSize: 256 } });
  server.on('stream', (stream: nodeHttp2.ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    if (headers[':path'] === '/reset') return stream.close(nodeHttp2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    stream.respond({ ':status': 200, 'x-back': headers['x-sent'] }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'yes' }));
    stream.pipe(stream);
    return undefined;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const client = await ourClient((server.address() as AddressInfo).port);
  const request = (path: string, sent: string): Http2Stream =>
    client.request([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', path],
      [':authority', 'a.example'],
      ['x-sent', sent],
      ['user-agent', 'ours'],
    ]);
  for (let round = 0; round < 40; round++) {
    const stream = request(`/${round}`, `value ${round % 7} ${'x'.repeat(round * 20)}.`);
    const result = answer(stream);
    const payload = randomBytes(round * 1000);
    stream.write(payload);
    stream.end();
    const { head, body, trailers } = await result;
    t.equal(header(head, 'x-back'), `value ${round % 7} ${'x'.repeat(round * 20)}.`);
    t.ok(body.equals(payload));
    t.same(trailers, [['x-end', 'yes']]);
  }
  await t.rejects(answer(request('/reset', 'x')), { message: /"code":11/u });
  client.drain();
});

test('node:http2 server: a large body both ways under flow control', async (t) => {
  const server = nodeHttp2.createServer();
  server.on('stream', (stream: nodeHttp2.ServerHttp2Stream) => {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const client = await ourClient((server.address() as AddressInfo).port);
  const payload = randomBytes(8_000_000);
  const one = (): Promise<boolean> =>
    new Promise((resolve) => {
      const stream = client.request([
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', '/'],
        [':authority', 'a'],
      ]);
      const chunks: Buffer[] = [];
      let more = (): void => {};
      stream.start({
        onData: (chunk) => void chunks.push(Buffer.from(chunk)),
        onEnd: () => {},
        onDrain: () => more(),
        onClose: () => resolve(Buffer.concat(chunks).equals(payload)),
      });
      more = writeAll(stream, payload);
    });
  t.same(await Promise.all([one(), one(), one()]), [true, true, true]);
  client.drain();
});

test('curl with prior knowledge', { skip: missing('curl') }, async (t) => {
  await using server = await ourServer(echoStream);
  const args = [
    '-sS',
    '--http2-prior-knowledge',
    '-m',
    '10',
    '-H',
    'x-a: b',
    '-d',
    'hello',
    '-D',
    '-',
    `http://127.0.0.1:${server.port}/q?x=1`,
  ];
  const { stdout } = await run('curl', args);
  t.match(stdout, /^HTTP\/2 200/u);
  t.match(stdout, /x-echo-x-a: b/u);
  t.match(stdout, /x-path: \/q\?x=1/u);
  t.ok(stdout.endsWith('hello'));
});

test('nghttp: padding, continuation', { skip: missing('nghttp') }, async (t) => {
  await using server = await ourServer(echoStream);
  const big = `x-big: ${randomBytes(20_000).toString('base64')}`;
  const { stdout } = await run(
    'nghttp',
    ['-v', '-t', '10', '-b', '200', '-H', big, '--no-dep', `http://127.0.0.1:${server.port}/a`],
    {
      maxBuffer: 1e7,
    },
  );
  t.match(stdout, /recv \(stream_id=\d+\) :status: 200/u);
  // On the line after the frame's name.
  t.notMatch(stdout, /error_code=(?!NO_ERROR)/u);
});

test('h2load: many streams on many connections', { skip: missing('h2load') }, async (t) => {
  await using server = await ourServer((stream) => {
    stream.respond(200, [['content-length', '5']]);
    stream.write(Buffer.from('hello'));
    stream.end();
    stream.start({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
  });
  const { stdout } = await run('h2load', ['-n', '5000', '-c', '4', '-m', '50', `http://127.0.0.1:${server.port}/`]);
  t.match(stdout, /5000 succeeded, 0 failed/u);
  t.comment(/finished in.*/u.exec(stdout)?.[0]);
});

/** A gRPC method over raw octets. */
const method = (path: string, stream: boolean) => ({
  path,
  requestStream: stream,
  responseStream: stream,
  requestSerialize: (value: Buffer) => value,
  requestDeserialize: (value: Buffer) => value,
  responseSerialize: (value: Buffer) => value,
  responseDeserialize: (value: Buffer) => value,
});

test('grpc-js client over our server', async (t) => {
  await using server = await ourServer((stream) => {
    stream.respond(200, [['content-type', 'application/grpc']]);
    stream.start({
      onData: (chunk) => void stream.write(chunk),
      onEnd: () => stream.endWith([['grpc-status', '0']]),
      onDrain: () => {},
      onClose: () => {},
    });
  });
  const client = new grpc.Client(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure());
  t.teardown(() => client.close());
  const reply = await new Promise<Buffer>((resolve, reject) => {
    const { path, requestSerialize, responseDeserialize } = method('/a.B/C', false);
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, Buffer.from('ping'), (error, value) =>
      error ? reject(error) : resolve(value!),
    );
  });
  t.equal(reply.toString(), 'ping');
});

test('our client over a grpc-js server', async (t) => {
  const server = new grpc.Server();
  server.addService(
    { C: method('/a.B/C', true) },
    {
      C: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (value: Buffer) => call.write(value));
        call.on('end', () => call.end());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  t.teardown(() => server.forceShutdown());
  const client = await ourClient(port);
  const head: HeaderList = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/a.B/C'],
    [':authority', 'a'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
  ];
  const stream = client.request(head);
  const result = answer(stream);
  const message = Buffer.from([0, 0, 0, 0, 4, 1, 2, 3, 4]);
  for (let i = 0; i < 3; i++) stream.write(message);
  stream.end();
  const { body, trailers } = await result;
  t.ok(body.equals(Buffer.concat([message, message, message])));
  t.equal(header(trailers ?? [], 'grpc-status'), '0');
  client.drain();
});
