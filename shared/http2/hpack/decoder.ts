// Header block → header list (RFC 7541). One decoder per connection and direction; its table is state shared with the peer's encoder,
// so a block must be decoded even when its stream is no longer wanted.
import { Buffer } from 'node:buffer';
import { ConnectionFault, Http2Code } from '../frames.ts';
import type { Header } from '../headers.ts';
import { huffmanDecode } from './huffman.ts';
import { DynamicTable, ENTRY_OVERHEAD, STATIC_TABLE } from './tables.ts';

export interface DecodedBlock {
  headers: Header[];
  /** The list passed the limit: `headers` holds what fitted, the table is up to date all the same. */
  oversized: boolean;
}

export class HpackDecoder {
  #table: DynamicTable;
  #tableLimit: number;
  #maxListSize: number;
  #scratch = Buffer.allocUnsafeSlow(256);
  #block: Buffer = this.#scratch;
  #at = 0;
  #end = 0;

  /** `tableLimit`: the SETTINGS_HEADER_TABLE_SIZE that this side announced. `maxListSize`: octets, each field counted with 32 extra. */
  constructor(tableLimit: number, maxListSize: number) {
    this.#table = new DynamicTable(tableLimit);
    this.#tableLimit = tableLimit;
    this.#maxListSize = maxListSize;
  }

  /** Throws ConnectionFault COMPRESSION_ERROR when the block is malformed. */
  decode(block: Uint8Array): DecodedBlock {
    this.#block = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    this.#at = 0;
    this.#end = block.length;
    const headers: Header[] = [];
    let listSize = 0;
    let fieldSeen = false;
    while (this.#at < this.#end) {
      const first = this.#block[this.#at] ?? 0;
      if ((first & 0xe0) === 0x20) {
        if (fieldSeen) throw fault('table size update behind a field');
        this.#resize(this.#integer(5));
        continue;
      }
      fieldSeen = true;
      const header = this.#field(first);
      listSize += header[0].length + header[1].length + ENTRY_OVERHEAD;
      if (listSize <= this.#maxListSize) headers.push(header);
    }
    return { headers, oversized: listSize > this.#maxListSize };
  }

  #field(first: number): Header {
    if (first & 0x80) return this.#lookup(this.#integer(7));
    const indexed = (first & 0xc0) === 0x40;
    const index = this.#integer(indexed ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#lookup(index)[0];
    const header: Header = [name, this.#string()];
    if (indexed) this.#table.add(header);
    return header;
  }

  #lookup(index: number): Header {
    const header = index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table.at(index - STATIC_TABLE.length - 1);
    if (!header) throw fault(`no table entry ${index}`);
    return header;
  }

  #resize(size: number): void {
    if (size > this.#tableLimit) throw fault(`table size ${size} is over the announced ${this.#tableLimit}`);
    this.#table.resize(size);
  }

  /** An integer with an N-bit prefix (RFC 7541, section 5.1), bounded well within 32 bits. */
  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#octet() & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const octet = this.#octet();
      value += (octet & 0x7f) << shift;
      if (!(octet & 0x80)) return value;
    }
    throw fault('integer too long');
  }

  #string(): string {
    const huffman = ((this.#block[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(7);
    const from = this.#at;
    if (length > this.#end - from) throw fault('string passes the end of the block');
    this.#at += length;
    if (!huffman) return this.#block.toString('latin1', from, this.#at);
    if (this.#scratch.length < length * 2) this.#scratch = Buffer.allocUnsafeSlow(length * 2);
    return this.#scratch.toString('latin1', 0, huffmanDecode(this.#block, from, this.#at, this.#scratch));
  }

  #octet(): number {
    if (this.#at >= this.#end) throw fault('block ends within a field');
    return this.#block[this.#at++] ?? 0;
  }
}

function fault(what: string): ConnectionFault {
  return new ConnectionFault(Http2Code.compressionError, `HPACK: ${what}`);
}
