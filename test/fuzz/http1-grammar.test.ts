// HTTP/1.1 put together from the pieces that smuggling is made of: lengths that contradict each other, codings in odd forms, folded lines,
// bare line feeds. However the bytes are cut, the verdict is the same one; and what is taken has one meaning only.
import fc from 'fast-check';
import { test } from 'tap';
import { outcome } from '../harness/http1-outcome.ts';

const RUNS = 6000;

/** One of the good ones `share` times as often as one of the odd ones: a message with something odd in each line is refused at its first. */
const mostly = (share: number, good: readonly string[], odd: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: share, arbitrary: fc.constantFrom(...good) }, { weight: 1, arbitrary: fc.constantFrom(...odd) });

const eol = mostly(80, ['\r\n'], ['\n', '\r', '\r\r\n', '\n\r', '']);
const blank = mostly(20, [' '], ['', '\t', '  ', '\u000b', '\u00a0']);

const requestLine = mostly(
  10,
  ['POST / HTTP/1.1', 'GET /a?b HTTP/1.1', 'PUT /c HTTP/1.1', 'OPTIONS * HTTP/1.1'],
  [
    'POST  / HTTP/1.1', 'POST / HTTP/1.0', 'POST / HTTP/1.2', 'POST / HTTP/2.0', 'POST / http/1.1', 'POST /', ' POST / HTTP/1.1', 'HEAD / HTTP/1.1',
    'POST /\u0000 HTTP/1.1', 'POST /a b HTTP/1.1', 'POST / HTTP/1.1 ', 'CONNECT a:1 HTTP/1.1', 'PUT http://a/b HTTP/1.1', 'po\u0000st / HTTP/1.1',
  ], // prettier-ignore
);
const statusLine = mostly(
  10,
  ['HTTP/1.1 200 OK', 'HTTP/1.1 404 Not Found', 'HTTP/1.1 204 No Content', 'HTTP/1.1 304 Not Modified', 'HTTP/1.1 100 Continue'],
  [
    'HTTP/1.1 200', 'HTTP/1.1  200 OK', 'HTTP/1.0 200 OK', 'HTTP/1.1 20 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 099 OK', 'HTTP/1.1 101 Go',
    'HTTP/2 200 OK', 'http/1.1 200 OK', ' HTTP/1.1 200 OK', 'HTTP/1.1 200 O\u0000K',
  ], // prettier-ignore
);
const length = mostly(
  3,
  ['5', '0'],
  ['05', '+5', '-5', '5 ', '5,5', '5, 5', '5,6', '0x5', '5e0', '', '99999999999999999999', '5\u0000'],
);
const coding = mostly(
  3,
  ['chunked', 'Chunked', 'CHUNKED'],
  [
    'chunked ', 'xchunked', 'chunked,chunked', 'gzip, chunked', 'chunked, gzip', 'identity', 'chunked;q=1', '"chunked"', 'chunked\u0000',
    '\u000bchunked', '', ', chunked',
  ], // prettier-ignore
);
const headerName = (name: string): fc.Arbitrary<string> =>
  mostly(20, [name], [name.toUpperCase(), `${name} `, ` ${name}`, `${name}\t`, `${name}\u0000`, name.replace('-', '_')]);
const field = (name: string, value: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(headerName(name), blank, value, eol).map(([own, space, text, end]) => `${own}:${space}${text}${end}`);
const anyField = fc.oneof(
  { weight: 2, arbitrary: field('Content-Length', length) },
  { weight: 2, arbitrary: field('Transfer-Encoding', coding) },
  { weight: 8, arbitrary: field('X-Plain', fc.constantFrom('a', 'a b', '', 'a,b')) },
  { weight: 1, arbitrary: field('Host', fc.constantFrom('a', 'b', '', 'a b', 'a,b')) },
  { weight: 1, arbitrary: field('Connection', fc.constantFrom('close', 'keep-alive', 'content-length', 'transfer-encoding, x')) },
  { weight: 1, arbitrary: field('Expect', fc.constantFrom('100-continue', 'x')) },
  { weight: 1, arbitrary: field('TE', fc.constantFrom('trailers', 'gzip')) },
  // A folded line, no colon, no name, nothing but blanks.
  {
    weight: 1,
    arbitrary: fc.constantFrom(' folded: 1\r\n', '\tchunked\r\n', 'no-colon\r\n', ': no-name\r\n', ' \r\n', '\u0000: a\r\n'),
  },
);

const chunk = mostly(
  4,
  ['5\r\nhello\r\n', '05\r\nhello\r\n', '5;x=y\r\nhello\r\n'],
  [
    '5;x="\r\nhello\r\n', '5 \r\nhello\r\n', ' 5\r\nhello\r\n', '5\nhello\n', '5\r\nhello', '5\r\nhelloX\r\n', '0x5\r\nhello\r\n', '-5\r\nhello\r\n',
    '\r\nhello\r\n', 'G\r\nhello\r\n', '100000000000000000005\r\nhello\r\n', '5\rhello\r\n',
  ], // prettier-ignore
);
const lastChunk = mostly(
  4,
  ['0\r\n\r\n', '0\r\nX-T: 1\r\n\r\n', '00\r\n\r\n'],
  ['0\r\nContent-Length: 5\r\n\r\n', '0\n\n', '0\r\n', '0;x\r\n\r\n', '0\r\n folded\r\n\r\n'],
);
const chunks = fc.tuple(fc.array(chunk, { maxLength: 3 }), lastChunk).map(([list, last]) => list.join('') + last);
const body = fc.oneof(fc.constantFrom('', 'hello', 'hell', 'hello!', 'GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n'), chunks);

const message = (start: fc.Arbitrary<string>, host: boolean): fc.Arbitrary<string> =>
  fc
    .tuple(start, eol, fc.array(anyField, { maxLength: 4 }), eol, body)
    .map(
      ([line, end, fields, blankLine, content]) =>
        `${line}${end}${host ? 'Host: a\r\n' : ''}${fields.join('')}${blankLine}${content}`,
    );
const traffic = (start: fc.Arbitrary<string>, host: boolean): fc.Arbitrary<Buffer> =>
  fc.array(message(start, host), { minLength: 1, maxLength: 3 }).map((list) => Buffer.from(list.join(''), 'latin1'));

/** Where the bytes are cut, as shares of their length. */
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 });

function cutAt(bytes: Buffer, shares: readonly number[]): Buffer[] {
  const places = shares.map((share) => Math.floor(share * bytes.length)).toSorted((a, b) => a - b);
  return [0, ...places].map((at, i) => bytes.subarray(at, places[i] ?? bytes.length)).filter(({ length }) => length > 0);
}

const singles = (bytes: Buffer): Buffer[] => Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));

interface Head {
  readonly status?: number;
  readonly version: string;
  readonly headers: readonly [string, string][];
}

/** Why a head that was taken has two meanings for two readers; undefined: it has not. */
function ambiguity({ headers, version, status = 200 }: Head): string | undefined {
  // Behind these comes no body, whatever the head says of one (RFC 9112, section 6.3, rule 1).
  if (status < 200 || status === 204 || status === 304) return undefined;
  const values = (name: string): string[] => headers.filter(([own]) => own === name).map(([, value]) => value);
  const [lengths, codings] = [values('content-length'), values('transfer-encoding')];
  if (lengths.length > 0 && codings.length > 0) return 'a length and a coding';
  if (new Set(lengths).size > 1) return 'two lengths';
  if (lengths.some((text) => !/^\d+$/u.test(text))) return 'a length that is no number';
  if (codings.length > 0 && codings.join(',').toLowerCase() !== 'chunked') return 'a coding other than chunked';
  if (codings.length > 0 && version !== '1.1') return 'a coding in another version';
  if (headers.some(([own, value]) => !/^[!#$%&'*+.^_`|~0-9a-z-]+$/u.test(own) || /[\0\r\n]/u.test(value)))
    return 'a field with odd octets';
  return undefined;
}

for (const [kind, start] of [
  ['request', requestLine],
  ['response', statusLine],
] as const)
  test(`hostile ${kind}s: one verdict, one meaning`, async (t) => {
    /** Heads, and conversations that ended with a refusal. */
    const seen = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(traffic(start, kind === 'request'), cuts, (bytes, shares) => {
        const whole = outcome(kind, [bytes]);
        for (const [how, parts] of Object.entries({ 'in pieces': cutAt(bytes, shares), 'octet by octet': singles(bytes) })) {
          const cut = outcome(kind, parts);
          if (cut !== whole) throw new Error(`${how}:\n${cut}\nwhole:\n${whole}`);
        }
        const lines = whole.split('\n');
        if (/^\d{3} /u.test(lines.at(-1) ?? '')) seen.refused++;
        for (const line of lines) {
          const head = line.startsWith('{') ? (JSON.parse(line) as Head) : undefined;
          if (head) seen.taken++;
          const reason = head && ambiguity(head);
          if (reason !== undefined) throw new Error(`${reason}: ${line}`);
        }
      }),
      { numRuns: RUNS },
    );
    t.comment(JSON.stringify(seen));
    t.ok(seen.taken > RUNS / 3 && seen.refused > RUNS / 3, 'both verdicts came up');
  });
