// The static and the dynamic table of HPACK (RFC 7541, sections 2.3 and 4).
import type { Header } from '../headers.ts';

/** Entries 1 to 61 (RFC 7541, appendix A). */
export const STATIC_TABLE: readonly Header[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status): Header => [':status', status]),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...(
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control content-disposition ' +
    'content-encoding content-language content-length content-location content-range content-type cookie date etag expect expires ' +
    'from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards ' +
    'proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security ' +
    'transfer-encoding user-agent vary via www-authenticate'
  )
    .split(' ')
    .map((name): Header => [name, '']),
];

/** What an entry costs beyond its octets (RFC 7541, section 4.1). */
export const ENTRY_OVERHEAD = 32;

export function entrySize(header: Header): number {
  return header[0].length + header[1].length + ENTRY_OVERHEAD;
}

/** Newest-first table with a bound in octets. Entries sit in a ring, so adding and evicting move nothing. */
export class DynamicTable {
  #ring: (Header | undefined)[] = Array.from({ length: 16 });
  #newest = 0;
  #count = 0;
  #size = 0;
  #maxSize: number;
  #onEvict: ((header: Header) => void) | undefined;

  constructor(maxSize: number, onEvict?: (header: Header) => void) {
    this.#maxSize = maxSize;
    this.#onEvict = onEvict;
  }

  get count(): number {
    return this.#count;
  }

  get size(): number {
    return this.#size;
  }

  get maxSize(): number {
    return this.#maxSize;
  }

  /** 0 is the newest entry; undefined behind the oldest. */
  at(index: number): Header | undefined {
    return index < this.#count ? this.#ring[(this.#newest - index) & (this.#ring.length - 1)] : undefined;
  }

  /** An entry larger than the table empties it and is not kept. True when kept. */
  add(header: Header): boolean {
    const size = entrySize(header);
    this.#evictDownTo(this.#maxSize - size);
    if (size > this.#maxSize) return false;
    if (this.#count === this.#ring.length) this.#grow();
    this.#newest = (this.#newest + 1) & (this.#ring.length - 1);
    this.#ring[this.#newest] = header;
    this.#count++;
    this.#size += size;
    return true;
  }

  resize(maxSize: number): void {
    this.#maxSize = maxSize;
    this.#evictDownTo(maxSize);
  }

  #evictDownTo(limit: number): void {
    while (this.#count > 0 && this.#size > limit) {
      const slot = (this.#newest - this.#count + 1) & (this.#ring.length - 1);
      const oldest = this.#ring[slot];
      this.#ring[slot] = undefined;
      this.#count--;
      if (!oldest) continue;
      this.#size -= entrySize(oldest);
      this.#onEvict?.(oldest);
    }
  }

  #grow(): void {
    const ring: (Header | undefined)[] = Array.from({ length: this.#ring.length * 2 });
    for (let i = 0; i < this.#count; i++) ring[this.#count - 1 - i] = this.at(i);
    this.#ring = ring;
    this.#newest = this.#count - 1;
  }
}
