// Heads of responses that have no body: what they say of one is read all the same, as whoever reads them next may believe it.
import { test } from 'tap';
import { ResponseReader } from '#shared/http1/reader.ts';

const FAULTY: [what: string, fields: string][] = [
  ['negative', 'Content-Length: -3'],
  ['with a plus', 'Content-Length: +3'],
  ['with a space within', 'Content-Length: 3 3'],
  ['in hexadecimal', 'Content-Length: 0x3'],
  ['over 2^64', 'Content-Length: 18446744073709551619'],
  ['of 16 digits', 'Content-Length: 1000000000000000'],
  ['empty', 'Content-Length:'],
  ['a list', 'Content-Length: 0, 0'],
  ['given twice', 'Content-Length: 0\r\nContent-Length: 0'],
  ['beside Transfer-Encoding', 'Content-Length: 0\r\nTransfer-Encoding: chunked'],
];

/** The framing that a reader finds, or the refusal. */
function framingOf(status: number, fields: string, method = 'GET'): string {
  let found = 'none';
  const reader = new ResponseReader({
    onHead: (_head, framing) => void (found = framing.kind),
    onBody: () => undefined,
    onEnd: () => undefined,
  });
  reader.expect(method);
  try {
    reader.push(Buffer.from(`HTTP/1.1 ${status} X\r\n${fields}${fields && '\r\n'}\r\n`));
  } catch (fault) {
    return String((fault as { status?: number }).status);
  }
  return found;
}

test('a malformed content-length in a 1xx, 204 or 304 head, or in the answer to HEAD, is refused as in any other', async (t) => {
  for (const [what, fields] of FAULTY) {
    for (const status of [100, 101, 103, 199, 200, 204, 205, 304])
      t.equal(framingOf(status, fields), '502', `${status}: ${what}`);
    t.equal(framingOf(200, fields, 'HEAD'), '502', `HEAD: ${what}`);
  }
});

test('a 1xx or 204 head that announces a body is refused: the next message would be read as one', async (t) => {
  for (const status of [100, 101, 102, 103, 204]) {
    t.equal(framingOf(status, 'Content-Length: 3'), '502', `${status}: a length`);
    t.equal(framingOf(status, 'Transfer-Encoding: chunked'), '502', `${status}: chunked`);
    t.equal(framingOf(status, 'Content-Length: 0'), status === 101 ? 'tunnel' : 'none', `${status}: no body, as it says`);
    t.equal(framingOf(status, ''), status === 101 ? 'tunnel' : 'none');
  }
});

test('304, and the answer to HEAD, tell the length that a body would have', async (t) => {
  for (const fields of ['Content-Length: 3', 'Transfer-Encoding: chunked', '']) {
    t.equal(framingOf(304, fields), 'none');
    t.equal(framingOf(200, fields, 'HEAD'), 'none');
  }
});

test('what the head of an accepted CONNECT says of a body is ignored', async (t) => {
  for (const fields of ['Content-Length: 3', 'Transfer-Encoding: chunked', ''])
    t.equal(framingOf(200, fields, 'CONNECT'), 'tunnel');
});
