// Replies of name servers, given again while they hold: resolver libraries ask the same names, with every search domain, for each connection.
import { aged, lifetimeOf } from './records.ts';

const MAX_ENTRIES = 8192;
const MAX_BYTES = 4 * 1024 * 1024;

interface Entry {
  readonly reply: Buffer;
  /** Milliseconds on the clock's monotonic time. */
  readonly came: number;
  readonly until: number;
  readonly size: number;
}

export class ReplyCache {
  /** The oldest first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  /** `now`: milliseconds of a clock that never steps. */
  get(key: string, now: number): Buffer | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (now < entry.until) return aged(entry.reply, Math.floor((now - entry.came) / 1000));
    this.#remove(key, entry);
    return undefined;
  }

  put(key: string, reply: Buffer, now: number): void {
    const seconds = lifetimeOf(reply);
    if (seconds === 0) return;
    const before = this.#entries.get(key);
    if (before) this.#remove(key, before);
    const size = reply.length + key.length;
    this.#entries.set(key, { reply, came: now, until: now + seconds * 1000, size });
    this.#bytes += size;
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= MAX_ENTRIES && this.#bytes <= MAX_BYTES) return;
      this.#remove(oldest, entry);
    }
  }

  #remove(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#bytes -= entry.size;
  }
}
