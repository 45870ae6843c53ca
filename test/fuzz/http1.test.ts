// Mutated HTTP/1.1 traffic: whatever comes is read or refused with a status, and in any cutting of the bytes with the same outcome.
import fc from 'fast-check';
import { test } from 'tap';
import type { HeaderList } from '#shared/http2/headers.ts';
import { MessageWriter } from '#shared/http1/serializer.ts';
import { outcome } from '../harness/http1-outcome.ts';
import { mutate, pieces, random } from '../harness/mutate.ts';

const REQUESTS =
  'GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello' +
  'PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-T: 1\r\n\r\n';
const RESPONSES =
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi' +
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest';

for (const [kind, traffic] of [
  ['request', REQUESTS],
  ['response', RESPONSES],
] as const) {
  test(`mutated ${kind}s`, (t) => {
    for (let seed = 0; seed < 4000; seed++) {
      const below = random(seed);
      const bytes = mutate(Buffer.from(traffic, 'latin1'), below);
      const whole = outcome(kind, [bytes]);
      const cut = outcome(kind, pieces(bytes, below));
      if (whole !== cut) t.equal(cut, whole, `seed ${seed}: ${JSON.stringify(bytes.toString('latin1'))}`);
    }
    t.end();
  });
}

const name = fc
  .stringMatching(/^[a-z][a-z0-9-]{0,15}$/u)
  .filter((own) => !['host', 'content-length', 'transfer-encoding'].includes(own));
const value = fc
  .string({
    unit: fc
      .integer({ min: 0x20, max: 0xff })
      .filter((code) => code !== 0x7f && (code < 0x80 || code > 0x9f))
      .map((code) => String.fromCharCode(code)),
  })
  .map((text) => text.trim());
const headers = fc.array(fc.tuple(name, value), { maxLength: 20 });

function writtenBy(use: (writer: MessageWriter) => void): Buffer {
  const parts: Buffer[] = [];
  const writer = new MessageWriter({ write: (chunk) => parts.push(Buffer.from(chunk)) > 0, end: () => {} }, { defer: () => {} });
  use(writer);
  writer.flush();
  return Buffer.concat(parts);
}

test('what is written is read back the same', (t) => {
  fc.assert(
    fc.property(fc.constantFrom('GET', 'POST', 'DELETE'), fc.webPath(), headers, fc.uint8Array(), (method, path, list, cut) => {
      const target = `/${path}`;
      const sent: HeaderList = [['host', 'a'], ...list];
      const bytes = writtenBy((writer) => writer.request(method, target, 'a', list, { kind: 'none' }));
      const parts = [...cut].reduce<Buffer[]>(
        (all, size) => {
          const last = all.pop() ?? Buffer.alloc(0);
          return size === 0 || size >= last.length ? [...all, last] : [...all, last.subarray(0, size), last.subarray(size)];
        },
        [bytes],
      );
      const [head = ''] = outcome('request', parts).split('\n');
      const expected = JSON.stringify({ method, target, version: '1.1', headers: sent });
      if (head !== expected) throw new Error(`${head}\n${expected}`);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 200, max: 599 }), headers, (status, list) => {
      const bytes = writtenBy((writer) =>
        writer.response(status, [['content-length', '0'], ...list], { kind: 'none' }, 'Reason'),
      );
      const [head = ''] = outcome('response', [bytes]).split('\n');
      const expected = JSON.stringify({ status, reason: 'Reason', version: '1.1', headers: [['content-length', '0'], ...list] });
      if (head !== expected) throw new Error(`${head}\n${expected}`);
    }),
  );
  t.end();
});
