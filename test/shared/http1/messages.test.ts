import { test } from 'tap';
import { MeshError } from '#shared/errors.ts';
import { header, type HeaderList } from '#shared/http2/headers.ts';
import {
  type BodyFraming,
  endToEnd,
  expectsContinue,
  keepsAlive,
  type RequestHead,
  type ResponseHead,
  upgradeOf,
} from '#shared/http1/head.ts';
import { RequestReader, ResponseReader } from '#shared/http1/reader.ts';
import { framingHeaders, MessageWriter } from '#shared/http1/serializer.ts';
import type { Http1Limits } from '#shared/http1/strictness.ts';
import { streamPair } from '../../harness/stream-pair.ts';

interface Message<Head> {
  head: Head;
  framing: BodyFraming;
  body: string;
  trailers?: HeaderList;
}

/** A sink that keeps whole messages. */
function messages<Head>() {
  const list: Message<Head>[] = [];
  const chunks: Buffer[] = [];
  return {
    list,
    sink: {
      onHead: (head: Head, framing: BodyFraming) => void list.push({ head, framing, body: '' }),
      onBody: (chunk: Uint8Array) => void chunks.push(Buffer.from(chunk)),
      onEnd: (trailers: HeaderList) => {
        const last = list.at(-1)!;
        last.body = Buffer.concat(chunks.splice(0)).toString('latin1');
        last.trailers = trailers;
      },
    },
  };
}

/** Reads all requests in `text`, cut in pieces of `split` octets. */
function requests(text: string, split = Infinity, limits: Partial<Http1Limits> = {}): Message<RequestHead>[] {
  const { list, sink } = messages<RequestHead>();
  const reader = new RequestReader(sink, limits);
  feed(reader, text, split);
  reader.end();
  return list;
}

function responses(text: string, methods: string[], split = Infinity): Message<ResponseHead>[] {
  const { list, sink } = messages<ResponseHead>();
  const reader = new ResponseReader(sink);
  for (const method of methods) reader.expect(method);
  feed(reader, text, split);
  reader.end();
  return list;
}

/** The status of the fault that a call throws. */
function faultOf(call: () => unknown): number | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    return error instanceof MeshError ? error.status : undefined;
  }
}

function feed(reader: RequestReader | ResponseReader, text: string, split: number): void {
  const bytes = Buffer.from(text, 'latin1');
  for (let i = 0; i < bytes.length; i += split) {
    const chunk = bytes.subarray(i, i + split);
    for (let at = 0; at < chunk.length;) at = reader.push(chunk, at);
  }
}

const PIPELINE =
  'GET /a?b=c HTTP/1.1\r\nHost: shop\r\nX-Mixed-Case:  spaced value \t\r\n\r\n' +
  '\r\nPOST /b HTTP/1.1\r\nHost: shop:80\r\nContent-Length: 5\r\n\r\nhello' +
  'PUT /c HTTP/1.1\r\nhost: [fd00::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n00006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n' +
  'DELETE /d HTTP/1.1\r\nHost:\r\n\r\n';

for (const split of [Infinity, 1, 3, 64]) {
  test(`pipelined requests, split ${split}`, (t) => {
    const [a, b, c, d] = requests(PIPELINE, split);
    t.match(a, { head: { method: 'GET', target: '/a?b=c', version: '1.1' }, framing: { kind: 'none' }, body: '' });
    t.equal(header(a!.head.headers, 'x-mixed-case'), 'spaced value');
    t.match(b, { head: { method: 'POST' }, framing: { kind: 'length', length: 5 }, body: 'hello' });
    t.match(c, { framing: { kind: 'chunked' }, body: 'hello world', trailers: [['x-sum', '1']] });
    t.match(d, { head: { method: 'DELETE' }, body: '' });
    t.end();
  });

  test(`responses, split ${split}`, (t) => {
    const text =
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi' +
      'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n' +
      'HTTP/1.1 304 \r\nContent-Length: 99\r\n\r\n' +
      'HTTP/1.1 204\r\n\r\n' +
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n' +
      'HTTP/1.0 200 OK\r\n\r\nto the end';
    const list = responses(text, ['POST', 'HEAD', 'GET', 'GET', 'GET', 'GET'], split);
    t.same(
      list.map(({ head, framing, body }) => [head.status, framing.kind, body]),
      [
        [100, 'none', ''],
        [200, 'length', 'hi'],
        [200, 'none', ''],
        [304, 'none', ''],
        [204, 'none', ''],
        [200, 'chunked', 'ok'],
        [200, 'until-close', 'to the end'],
      ],
    );
    t.end();
  });
}

test('what is refused, with its status', (t) => {
  const head = 'POST / HTTP/1.1\r\nHost: a\r\n';
  const cases: [what: string, text: string, status: number][] = [
    ['CL and TE', `${head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['two CL', `${head}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`, 400],
    ['CL list', `${head}Content-Length: 3, 3\r\n\r\nabc`, 400],
    ['signed CL', `${head}Content-Length: +3\r\n\r\nabc`, 400],
    ['unknown TE', `${head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 501],
    ['two TE', `${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['TE identity', `${head}Transfer-Encoding: identity\r\n\r\n`, 501],
    ['folded line', `${head}X-A: b\r\n c\r\n\r\n`, 400],
    ['bare LF', 'GET / HTTP/1.1\nHost: a\n\n', 400],
    ['bare CR', `${head}X-A: b\rc\r\n\r\n`, 400],
    ['NUL', `${head}X-A: b\0c\r\n\r\n`, 400],
    ['space before colon', `${head}X-A : b\r\n\r\n`, 400],
    ['no colon', `${head}X-A\r\n\r\n`, 400],
    ['empty name', `${head}: b\r\n\r\n`, 400],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['two hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n', 400],
    ['bad host', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n', 400],
    ['two spaces', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['target without slash', 'GET a HTTP/1.1\r\nHost: a\r\n\r\n', 400],
    ['lower-case protocol', 'GET / http/1.1\r\nHost: a\r\n\r\n', 400],
    ['HTTP/2 line', 'GET / HTTP/2.0\r\nHost: a\r\n\r\n', 505],
    ['HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\n\r\n', 426],
    ['large head', `${head}X-A: ${'a'.repeat(70_000)}\r\n\r\n`, 431],
    ['many fields', `${head}${'a: b\r\n'.repeat(101)}\r\n`, 431],
    ['bad chunk size', `${head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`, 400],
    ['signed chunk size', `${head}Transfer-Encoding: chunked\r\n\r\n-1\r\n`, 400],
    ['hex prefix', `${head}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n`, 400],
    ['long chunk size', `${head}Transfer-Encoding: chunked\r\n\r\n${'0'.repeat(20)}5\r\nhello\r\n`, 400],
    ['chunk without CRLF', `${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n`, 400],
    ['chunk size with LF', `${head}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n`, 400],
    ['chunk extensions', `${head}Transfer-Encoding: chunked\r\n\r\n5;${'x'.repeat(5000)}\r\nhello\r\n`, 400],
    ['framing in trailers', `${head}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n`, 400],
    ['cut body', `${head}Content-Length: 5\r\n\r\nhel`, 400],
    ['cut head', head, 400],
    ['CONNECT with body', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\nabc', 400],
  ];
  for (const [what, text, status] of cases) {
    for (const split of [Infinity, 1])
      t.equal(
        faultOf(() => requests(text, split)),
        status,
        `${what}, split ${split}`,
      );
  }
  t.match(requests('GET / HTTP/1.0\r\n\r\n', Infinity, { http10: true }), [{ head: { version: '1.0' } }]);
  for (const fields of [
    'Content-Length: 1\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: gzip',
    'Content-Length: x',
    'a b: c',
  ]) {
    t.equal(
      faultOf(() => responses(`HTTP/1.1 200 OK\r\n${fields}\r\n\r\n`, ['GET'])),
      502,
      fields,
    );
  }
  t.throws(() => responses('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', []), { message: /without a request/u });
  t.throws(() => responses('', ['GET']), { message: /ended before the response/u });
  t.end();
});

test('head helpers', (t) => {
  const head: RequestHead = {
    method: 'GET',
    target: '/',
    version: '1.1',
    headers: [
      ['connection', 'Upgrade, X-Hop'],
      ['upgrade', 'WebSocket'],
      ['x-hop', '1'],
      ['x-end', '2'],
      ['expect', '100-Continue'],
    ],
  };
  t.equal(upgradeOf(head), 'websocket');
  t.equal(expectsContinue(head), true);
  t.equal(keepsAlive(head), true);
  t.equal(keepsAlive({ ...head, version: '1.0' }), false);
  t.equal(keepsAlive({ ...head, headers: [['connection', 'close']] }), false);
  t.same(endToEnd(head.headers), [
    ['x-end', '2'],
    ['expect', '100-Continue'],
  ]);
  t.end();
});

test('a tunnel behind CONNECT and upgrade', (t) => {
  const { list, sink } = messages<RequestHead>();
  const reader = new RequestReader(sink);
  const bytes = Buffer.from('CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET raw bytes');
  const at = reader.push(bytes);
  t.match(list, [{ head: { method: 'CONNECT', target: 'a:443' }, body: '' }]);
  reader.becomeTunnel();
  reader.push(bytes, at);
  reader.end();
  t.equal(list[0]!.body, 'GET raw bytes');

  const upgraded = responses('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nraw', ['GET']);
  t.match(upgraded, [{ framing: { kind: 'tunnel' }, body: 'raw' }]);
  t.end();
});

test('what the writer writes, the reader reads', async (t) => {
  const [a, b] = streamPair();
  const { list, sink } = messages<ResponseHead>();
  const reader = new ResponseReader(sink);
  const done = new Promise<void>((resolve) => {
    b.start({
      onData: (chunk) => {
        for (let at = 0; at < chunk.length;) at = reader.push(chunk, at);
      },
      onEnd: () => {
        reader.end();
        resolve();
      },
      onDrain: () => {},
      onClose: () => {},
    });
  });
  const writer = new MessageWriter(a);
  for (const framing of [{ kind: 'length', length: 20_005 }, { kind: 'chunked' }, { kind: 'none' }] as const) {
    reader.expect(framing.kind === 'none' ? 'HEAD' : 'GET');
    writer.response(200, [['x-kind', framing.kind], ...framingHeaders(framing)], framing);
    if (framing.kind !== 'none') {
      writer.write(Buffer.from('hello'));
      writer.write(Buffer.alloc(20_000, 'x'));
    }
    t.ok(writer.end(framing.kind === 'chunked' ? [['x-sum', '7']] : []));
  }
  reader.expect('GET');
  writer.response(200, [], { kind: 'until-close' }, 'Fine');
  writer.write(Buffer.from('bye'));
  writer.end();
  await done;
  t.same(
    list.map(({ head, body, trailers }) => [head.reason, body.length, trailers]),
    [
      ['OK', 20_005, []],
      ['OK', 20_005, [['x-sum', '7']]],
      ['OK', 0, []],
      ['Fine', 3, []],
    ],
  );
});

test('what cannot be sent is refused, and nothing of it is written', async (t) => {
  const written: string[] = [];
  const stream = { write: (chunk: Uint8Array) => written.push(Buffer.from(chunk).toString()) > 0, end: () => {} };
  const writer = new MessageWriter(stream, { defer: () => {} });
  const none = { kind: 'none' } as const;
  for (const wrong of ['a\r\nb: c', ' a', 'a\t', '\u0000', '\u0100'])
    t.throws(() => writer.request('GET', '/', 'a', [['x', wrong]], none), { code: 'internal' }, JSON.stringify(wrong));
  for (const wrong of ['', ':x', 'a b', 'a:', '\u00e9'])
    t.throws(() => writer.response(200, [[wrong, 'x']], none), { code: 'internal' }, JSON.stringify(wrong));
  t.throws(() => writer.request('GET', '/a b', 'a', [], none), { code: 'internal' });
  t.throws(() => writer.request('GET', '/', 'a\r\nb: c', [], none), { code: 'internal' });
  t.throws(() => writer.response(200, [], none, 'a\r\n'), { code: 'internal' });
  writer.request('GET', '/', 'a', [['x', '\u00ff\t1']], none);
  writer.flush();
  t.same(written, ['GET / HTTP/1.1\r\nhost: a\r\nx: \u00ff\t1\r\n\r\n'.replace('\u00ff', '\ufffd')]);
});

test('many small messages in one turn outgrow the buffer and stay in order', (t) => {
  const written: Buffer[] = [];
  const stream = { write: (chunk: Uint8Array) => written.push(Buffer.from(chunk)) > 0, end: () => {} };
  const writer = new MessageWriter(stream, { defer: () => {} });
  const expected: string[] = [];
  for (let i = 0; i < 300; i++) {
    const text = `${i} `.repeat((i % 40) + 1);
    expected.push(text);
    writer.response(200, [['content-length', String(text.length)]], { kind: 'length', length: text.length });
    writer.write(Buffer.from(text));
    writer.end();
  }
  writer.flush();
  const list = responses(
    Buffer.concat(written).toString('latin1'),
    expected.map(() => 'GET'),
  );
  t.same(
    list.map(({ body }) => body),
    expected,
  );
  t.end();
});
