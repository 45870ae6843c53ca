// The access log on its way out: lines are put together in one buffer, octet by octet, and leave together.
import type { Clock } from '#shared/clock.ts';

/** Octets gathered before they are written, and room for one line more. */
const GATHER = 16_384;
/** Milliseconds that a line may wait for more of them. */
const PATIENCE = 200;

export class LogLines {
  readonly #clock: Clock;
  readonly #write: (lines: Uint8Array) => unknown;
  #buffer = Buffer.allocUnsafeSlow(2 * GATHER);
  #length = 0;
  #waiting = false;

  /** `write` takes the octets; the array is used again behind its return. */
  constructor(clock: Clock, write: (lines: Uint8Array) => unknown) {
    this.#clock = clock;
    this.#write = write;
  }

  /** ASCII without control characters, as it is. */
  text(text: string): this {
    this.#room(text.length);
    const buffer = this.#buffer;
    let at = this.#length;
    for (let i = 0; i < text.length; i += 1) buffer[at++] = text.charCodeAt(i);
    this.#length = at;
    return this;
  }

  /** Foreign text: nobody must be able to write lines or fields of his own. `-` when there is none. */
  foreign(text: string | undefined): this {
    if (text === undefined || text === '') return this.text('-');
    this.#room(text.length);
    const buffer = this.#buffer;
    let at = this.#length;
    for (let i = 0; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code < 0x20 || code > 0x7e || code === QUOTE || code === BACKSLASH) return this.text(escaped(text));
      buffer[at++] = code;
    }
    this.#length = at;
    return this;
  }

  /** A whole number, not negative. */
  number(value: number): this {
    if (!(value < 2 ** 31)) return this.text(String(value));
    this.#room(MAX_DIGITS);
    const buffer = this.#buffer;
    let digits = 1;
    for (let rest = value; rest >= 10; rest = (rest / 10) | 0) digits += 1;
    let rest = value;
    for (let at = this.#length + digits - 1; at >= this.#length; at -= 1) {
      buffer[at] = 0x30 + (rest % 10);
      rest = (rest / 10) | 0;
    }
    this.#length += digits;
    return this;
  }

  /** Ends a line. */
  end(): void {
    this.text('\n');
    this.#gathered();
  }

  /** Whole lines that another thread put together. */
  lines(lines: Uint8Array): void {
    this.#room(lines.length);
    this.#buffer.set(lines, this.#length);
    this.#length += lines.length;
    this.#gathered();
  }

  #gathered(): void {
    if (this.#length >= GATHER) return this.flush();
    if (this.#waiting) return;
    this.#waiting = true;
    this.#clock.after(PATIENCE, () => {
      this.#waiting = false;
      this.flush();
    });
  }

  /** Writes what was gathered. */
  flush(): void {
    if (this.#length === 0) return;
    const lines = this.#buffer.subarray(0, this.#length);
    this.#length = 0;
    this.#write(lines);
  }

  #room(octets: number): void {
    if (this.#length + octets <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + octets));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MAX_DIGITS = 10;

/** Control characters, quotes, backslashes, and what is no ASCII. */
function escaped(text: string): string {
  return text.replaceAll(
    /[^\u0020-\u0021\u0023-\u005b\u005d-\u007e]/gu,
    (character) => `\\x${(character.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`,
  );
}
