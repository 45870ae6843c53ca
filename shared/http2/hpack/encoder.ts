// Header list → header block (RFC 7541). Fields that repeat (baggage, user-agent, :authority) enter the dynamic table and cost one or
// two octets from then on; secrets and values that differ every time stay out of it.
import { Buffer } from 'node:buffer';
import type { Header, HeaderList } from '../headers.ts';
import { huffmanEncode, huffmanLength } from './huffman.ts';
import { DynamicTable, entrySize, STATIC_TABLE } from './tables.ts';

/** The table this side is willing to keep, whatever the peer would allow. */
const OWN_TABLE_LIMIT = 4096;
/** Sent as "never indexed", so that intermediaries keep them out of their tables too (RFC 7541, section 7.1.3). */
const SECRET = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie']);
/** Different every time: an entry would only push out useful ones. */
const VOLATILE = new Set(
  (
    ':path content-length date etag last-modified if-modified-since if-none-match age location ' +
    'traceparent tracestate x-request-id x-b3-traceid x-b3-spanid forwarded grpc-timeout'
  ).split(' '),
);
/** A longer field is not worth the room it takes in the table. */
const MAX_INDEXED_SIZE = OWN_TABLE_LIMIT / 4;

interface StaticName {
  /** Index of its first entry. */
  index: number;
  values: Map<string, number>;
}

const STATIC_NAMES = new Map<string, StaticName>();
STATIC_TABLE.forEach(([name, value], i) => {
  const known = STATIC_NAMES.get(name) ?? { index: i + 1, values: new Map<string, number>() };
  STATIC_NAMES.set(name, known);
  known.values.set(value, i + 1);
});

export class HpackEncoder {
  #table = new DynamicTable(OWN_TABLE_LIMIT, (header) => this.#forget(header));
  /** Name → value → running number of the entry; with #added it gives the distance from the newest. */
  #entries = new Map<string, Map<string, number>>();
  #added = 0;
  #block = Buffer.allocUnsafeSlow(1024);
  #at = 0;
  /** The smallest size since the last block and the final one, still to be announced. */
  #updates: number[] = [];

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setPeerLimit(limit: number): void {
    const size = Math.min(limit, OWN_TABLE_LIMIT);
    if (size === this.#table.maxSize) return;
    const smallest = Math.min(size, ...this.#updates);
    this.#updates = smallest < size ? [smallest, size] : [size];
    this.#table.resize(size);
  }

  /** The block is valid until the next call. */
  encode(headers: HeaderList): Uint8Array {
    this.#at = 0;
    for (const size of this.#updates) this.#integer(0x20, 5, size);
    if (this.#updates.length > 0) this.#updates = [];
    for (const header of headers) this.#field(header);
    return this.#block.subarray(0, this.#at);
  }

  #field(header: Header): void {
    const [name, value] = header;
    const common = STATIC_NAMES.get(name);
    const known = common?.values.get(value) ?? this.#dynamicIndex(name, value);
    if (known !== undefined) return this.#integer(0x80, 7, known);
    const nameIndex = common?.index ?? 0;
    if (SECRET.has(name)) return this.#literal(0x10, 4, nameIndex, header);
    if (VOLATILE.has(name) || entrySize(header) > MAX_INDEXED_SIZE) return this.#literal(0, 4, nameIndex, header, true);
    this.#literal(0x40, 6, nameIndex, header);
    if (this.#table.add(header)) this.#remember(header);
  }

  /** `plain`: as octets. Huffman code saves a quarter of them, which pays for entries of the table but not for what is sent each time. */
  #literal(first: number, prefixBits: number, nameIndex: number, [name, value]: Header, plain = false): void {
    this.#integer(first, prefixBits, nameIndex);
    if (nameIndex === 0) this.#string(name, plain);
    this.#string(value, plain);
  }

  #dynamicIndex(name: string, value: string): number | undefined {
    const number = this.#entries.get(name)?.get(value);
    return number === undefined ? undefined : STATIC_TABLE.length + 1 + this.#added - number;
  }

  #remember([name, value]: Header): void {
    const values = this.#entries.get(name);
    this.#added++;
    if (values) values.set(value, this.#added);
    else this.#entries.set(name, new Map([[value, this.#added]]));
  }

  #forget([name, value]: Header): void {
    const values = this.#entries.get(name);
    values?.delete(value);
    if (values?.size === 0) this.#entries.delete(name);
  }

  #integer(first: number, prefixBits: number, value: number): void {
    this.#room(8);
    const mask = (1 << prefixBits) - 1;
    if (value < mask) {
      this.#block[this.#at++] = first | value;
      return;
    }
    this.#block[this.#at++] = first | mask;
    let rest = value - mask;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) this.#block[this.#at++] = 0x80 | (rest & 0x7f);
    this.#block[this.#at++] = rest;
  }

  #string(text: string, plain: boolean): void {
    const coded = plain ? text.length : huffmanLength(text);
    const huffman = coded < text.length;
    const length = huffman ? coded : text.length;
    this.#integer(huffman ? 0x80 : 0, 7, length);
    this.#room(length);
    if (huffman) this.#at = huffmanEncode(text, this.#block, this.#at);
    else this.#at += this.#block.write(text, this.#at, 'latin1');
  }

  #room(octets: number): void {
    if (this.#at + octets <= this.#block.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#block.length * 2, this.#at + octets));
    this.#block.copy(larger, 0, 0, this.#at);
    this.#block = larger;
  }
}
