import fc from 'fast-check';
import { test } from 'tap';
import type { HeaderList } from '#shared/http2/headers.ts';
import { HpackDecoder } from '#shared/http2/hpack/decoder.ts';
import { HpackEncoder } from '#shared/http2/hpack/encoder.ts';
import { huffmanDecode, huffmanEncode, huffmanLength } from '#shared/http2/hpack/huffman.ts';
import { DynamicTable, STATIC_TABLE } from '#shared/http2/hpack/tables.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const decoder = (): HpackDecoder => new HpackDecoder(4096, 65_536);

/** Blocks of one connection with what they mean (RFC 7541, appendices C.2 to C.6). */
const EXAMPLES: [what: string, tableSize: number, blocks: [hex: string, headers: HeaderList][]][] = [
  ['C.2.1', 4096, [['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572', [['custom-key', 'custom-header']]]]],
  ['C.2.2', 4096, [['040c 2f73 616d 706c 652f 7061 7468', [[':path', '/sample/path']]]]],
  ['C.2.3', 4096, [['1008 7061 7373 776f 7264 0673 6563 7265 74', [['password', 'secret']]]]],
  [
    'C.4, Huffman requests',
    4096,
    [
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        [
          [':method', 'GET'],
          [':scheme', 'http'],
          [':path', '/'],
          [':authority', 'www.example.com'],
        ],
      ],
      [
        '8286 84be 5886 a8eb 1064 9cbf',
        [
          [':method', 'GET'],
          [':scheme', 'http'],
          [':path', '/'],
          [':authority', 'www.example.com'],
          ['cache-control', 'no-cache'],
        ],
      ],
    ],
  ],
  [
    'C.6, Huffman responses with eviction',
    256,
    [
      [
        '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
        [
          [':status', '302'],
          ['cache-control', 'private'],
          ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
          ['location', 'https://www.example.com'],
        ],
      ],
      [
        '4883 640e ffc1 c0bf',
        [
          [':status', '307'],
          ['cache-control', 'private'],
          ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
          ['location', 'https://www.example.com'],
        ],
      ],
    ],
  ],
];

test('the examples of the standard', (t) => {
  for (const [what, tableSize, blocks] of EXAMPLES) {
    const connection = new HpackDecoder(tableSize, 65_536);
    for (const [block, headers] of blocks) t.same(connection.decode(hex(block)).headers, headers, what);
  }
  t.equal(STATIC_TABLE.length, 61);
  t.same(STATIC_TABLE[60], ['www-authenticate', '']);
  t.end();
});

const octets = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });

test('Huffman: every text comes back, in the length foretold', (t) => {
  const check = (text: string): void => {
    const coded = Buffer.alloc(huffmanLength(text) + 1, 0xaa);
    const end = huffmanEncode(text, coded, 0);
    if (end !== coded.length - 1) throw new Error(`length ${end}, foretold ${coded.length - 1}`);
    const decoded = Buffer.alloc(text.length + 8);
    const count = huffmanDecode(coded, 0, end, decoded);
    if (decoded.toString('latin1', 0, count) !== text) throw new Error('another text');
  };
  check(Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join(''));
  fc.assert(fc.property(octets, check));
  t.throws(() => huffmanDecode(hex('ffffffff'), 0, 4, Buffer.alloc(8)), { message: /EOS/u });
  t.throws(() => huffmanDecode(hex('00'), 0, 1, Buffer.alloc(8)), { message: /padding/u }, 'padding of zeros');
  t.throws(() => huffmanDecode(hex('1fff'), 0, 2, Buffer.alloc(8)), { message: /padding/u }, 'a whole octet of padding');
  t.end();
});

const name = fc.oneof(
  fc.constantFrom('cookie', 'authorization', 'x-a', 'x-b', 'traceparent', ':path', 'baggage', 'date'),
  fc.stringMatching(/^[a-z0-9-]{1,20}$/u),
);
const field = fc.tuple(name, fc.oneof(octets, fc.constantFrom('', 'a', 'b'.repeat(600), 'c'.repeat(3000))));
const connection = fc.array(
  fc.record({
    headers: fc.array(field, { maxLength: 30 }),
    limit: fc.option(fc.integer({ min: 0, max: 5000 }), { nil: undefined }),
  }),
  { maxLength: 20 },
);

test('encoder and decoder of a connection agree, through table size changes', (t) => {
  fc.assert(
    fc.property(connection, (blocks) => {
      const [encoder, peer] = [new HpackEncoder(), new HpackDecoder(4096, 1_000_000)];
      for (const { headers, limit } of blocks) {
        if (limit !== undefined) encoder.setPeerLimit(limit);
        const { headers: got } = peer.decode(encoder.encode(headers));
        if (JSON.stringify(got) !== JSON.stringify(headers)) throw new Error(JSON.stringify(got));
      }
    }),
  );
  t.end();
});

test('repeated fields cost an octet each, secrets stay out of tables', (t) => {
  const encoder = new HpackEncoder();
  const headers: HeaderList = [
    [':method', 'CONNECT'],
    ['baggage', 'k8s.namespace.name=shop'],
    ['authorization', 'Bearer x'],
    ['traceparent', '00-1'],
  ];
  const first = encoder.encode(headers).length;
  const second = Buffer.from(encoder.encode(headers));
  t.ok(first > second.length + 20);
  t.equal(second[0], 0x80 | 63, ':method CONNECT, the older of two entries');
  t.equal(second[1], 0x80 | 62, 'baggage');
  t.equal((second[2] ?? 0) & 0xf0, 0x10, 'authorization: never indexed');
  t.end();
});

test('a list over the limit is cut, and the table is kept up to date', (t) => {
  const peer = new HpackDecoder(4096, 100);
  const encoder = new HpackEncoder();
  const { headers, oversized } = peer.decode(
    encoder.encode([
      ['a', '1'],
      ['b', 'x'.repeat(100)],
      ['c', '2'],
    ]),
  );
  t.equal(oversized, true);
  t.same(headers, [['a', '1']]);
  t.same(peer.decode(encoder.encode([['c', '2']])), { headers: [['c', '2']], oversized: false });
  t.end();
});

test('dynamic table: ring, eviction, too large an entry', (t) => {
  const evicted: string[] = [];
  const table = new DynamicTable(2000, ([own]) => void evicted.push(own));
  for (let i = 0; i < 100; i++) table.add([`n${i}`, '']);
  t.same(table.at(0), ['n99', '']);
  t.same(table.at(table.count - 1), [evicted.length < 100 ? `n${evicted.length}` : '', '']);
  t.equal(table.at(table.count), undefined);
  t.ok(table.size <= 2000);
  t.equal(table.add(['big', 'x'.repeat(2000)]), false);
  t.equal(table.count, 0);
  t.end();
});

test('any octets are decoded or refused, never worse', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (block) => {
      try {
        decoder().decode(block);
      } catch (error) {
        if (!(error instanceof Error) || error.name !== 'ConnectionFault') throw error;
      }
    }),
    { numRuns: 3000 },
  );
  t.end();
});
