// The same odd requests to Envoy and to our reader. Both must take or refuse alike; where this reader is stricter, it says why.
import { connect } from 'node:net';
import { test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { RequestReader } from '#shared/http1/reader.ts';
import { noEnvoy } from '../../harness/envoy.ts';
import { jsonEnvoy, socketAddress, typed } from '../../harness/envoy-json.ts';

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n';
const POST = 'POST / HTTP/1.1\r\nHost: a\r\n';
const CHUNKED = `${POST}Transfer-Encoding: chunked\r\n\r\n`;

/** `stricter`: Envoy takes it, this reader does not, for this reason. */
const CORPUS: [what: string, text: string, stricter?: string][] = [
  ['plain', `${GET}\r\n`],
  ['tabs and spaces around a value', `${GET}X: \t b \t\r\n\r\n`],
  ['empty value', `${GET}X:\r\n\r\n`],
  ['octets over 127 in a value', `${GET}X: caf\u00e9\r\n\r\n`],
  ['content-length', `${POST}Content-Length: 3\r\n\r\nabc`],
  ['chunked', `${CHUNKED}3\r\nabc\r\n0\r\n\r\n`],
  ['chunked in capitals', `${POST}Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n`],
  ['chunk extension', `${CHUNKED}3;a=b\r\nabc\r\n0\r\n\r\n`],
  ['chunk size with zeros', `${CHUNKED}0003\r\nabc\r\n0\r\n\r\n`],
  ['trailers', `${CHUNKED}0\r\nX: y\r\n\r\n`],
  ['absolute target', 'GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['absolute target with a fragment', 'GET http://a/b#c HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['empty line first', `\r\n${GET}\r\n`],
  ['CL and TE', `${POST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['TE and CL', `${POST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`],
  ['two different CL', `${POST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`],
  ['two equal CL', `${POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`],
  ['CL with a sign', `${POST}Content-Length: +3\r\n\r\nabc`],
  ['CL in hex', `${POST}Content-Length: 0x3\r\n\r\nabc`],
  ['CL empty', `${POST}Content-Length:\r\n\r\n`],
  ['TE gzip, chunked', `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ['TE identity', `${POST}Transfer-Encoding: identity\r\n\r\n`],
  ['TE chunked twice', `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['TE with a vertical tab', `${POST}Transfer-Encoding: \u000bchunked\r\n\r\n0\r\n\r\n`],
  ['folded line', `${GET}X: b\r\n c\r\n\r\n`, 'a folded line is obsolete and read in two ways'],
  ['bare LF', 'GET / HTTP/1.1\nHost: a\n\n', 'an LF alone ends a line for some recipients only'],
  ['bare CR in a value', `${GET}X: b\rc\r\n\r\n`, 'a CR alone ends a line for some recipients'],
  ['NUL in a value', `${GET}X: b\0c\r\n\r\n`],
  ['space before the colon', `${GET}X : b\r\n\r\n`],
  ['space in a name', `${GET}X Y: b\r\n\r\n`],
  ['no colon', `${GET}Xyz\r\n\r\n`],
  ['empty name', `${GET}: b\r\n\r\n`],
  ['no host', 'GET / HTTP/1.1\r\n\r\n'],
  ['two hosts', `${GET}Host: b\r\n\r\n`, 'recipients differ in which one counts'],
  ['host with a path', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'],
  ['HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\n\r\n'],
  ['HTTP/0.9', 'GET /\r\n\r\n'],
  ['HTTP/3.7', 'GET / HTTP/3.7\r\nHost: a\r\n\r\n'],
  ['lower-case protocol', 'GET / http/1.1\r\nHost: a\r\n\r\n'],
  ['two spaces', 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n', 'the request line has single spaces'],
  ['method with a colon', 'G:T / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['NUL in the target', 'GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['octets over 127 in the target', 'GET /caf\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['target without slash', 'GET abc HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['chunk size is no number', `${CHUNKED}xyz\r\nabc\r\n0\r\n\r\n`],
  ['chunk size with a sign', `${CHUNKED}-3\r\nabc\r\n0\r\n\r\n`],
  ['chunk size with 0x', `${CHUNKED}0x3\r\nabc\r\n0\r\n\r\n`],
  [
    'chunk longer than its size',
    `${CHUNKED}3\r\nabcX\r\n0\r\n\r\n`,
    'what lies between the chunk and its line end is a smuggling place',
  ],
  ['chunk size ended by LF', `${CHUNKED}3\nabc\r\n0\r\n\r\n`],
  ['huge chunk size', `${CHUNKED}fffffffffffffffff\r\nabc\r\n0\r\n\r\n`],
  ['head of 70,000 octets', `${GET}X: ${'y'.repeat(70_000)}\r\n\r\n`],
  ['101 fields', `${GET}${'X: y\r\n'.repeat(101)}\r\n`],
];

/** True when our reader takes the whole request. */
function weTake(text: string): boolean {
  let complete = false;
  const reader = new RequestReader({ onHead: () => {}, onBody: () => {}, onEnd: () => (complete = true) });
  const bytes = Buffer.from(text, 'latin1');
  try {
    for (let at = 0; at < bytes.length;) at = reader.push(bytes, at);
  } catch {
    return false;
  }
  return complete;
}

/** The status line that Envoy answers; '' when it just closes or says nothing. */
function envoyAnswer(address: HostPort, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(address.port, address.ip);
    let answer = '';
    const done = (): void => {
      socket.destroy();
      resolve(answer.split('\r\n')[0] ?? '');
    };
    socket.setTimeout(1500, done);
    socket.on('error', done);
    socket.on('close', done);
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
      if (answer.includes('\r\n\r\n')) done();
    });
    socket.write(Buffer.from(text, 'latin1'));
  });
}

test('the same verdict as Envoy', { skip: noEnvoy }, async (t) => {
  const manager = typed('http', 'filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: 'in',
    codec_type: 'HTTP1',
    http_filters: [
      // Reads the whole body before it answers, so that what is wrong with the body shows.
      typed('buffer', 'filters.http.buffer.v3.Buffer', { max_request_bytes: 100_000 }),
      typed('router', 'filters.http.router.v3.Router', {}),
    ],
    route_config: {
      virtual_hosts: [{ name: 'any', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }] }],
    },
  });
  const listener = (listen: HostPort) => ({
    name: 'in',
    address: socketAddress(listen),
    filter_chains: [{ filters: [manager] }],
  });
  await using envoy = await jsonEnvoy((listen) => ({ static_resources: { listeners: [listener(listen)] } }));
  for (const [what, text, stricter] of CORPUS) {
    const answer = await envoyAnswer(envoy.address, text);
    const ours = weTake(text);
    // Not found: Envoy took the request and had no route for its target.
    const theirs = / (200|404) /u.test(answer);
    if (stricter === undefined) t.equal(ours, theirs, `${what}: ${answer || 'closed'}`);
    else t.same([ours, theirs], [false, true], `${what}: ${stricter}`);
  }
});
