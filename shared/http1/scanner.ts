// Finds and parses the head of a message in a stream of chunks. Octets are looked at once, for the end of the head and for what is
// forbidden; a head within one chunk, the usual case, is not copied.
import { Buffer } from 'node:buffer';
import type { Header } from '../http2/headers.ts';
import { checkHost, type RequestHead, type ResponseHead, type Version } from './head.ts';
import { Http1Fault, type Http1Limits, isTarget, isToken } from './strictness.ts';

const CR = 13;
const LF = 10;
const TAB = 9;

/** Empty lines that may stand before a request line (RFC 9112, section 2.2), in octets. */
const MAX_LEADING = 8;

/** Scans one head; reset() for the next. `fault`: the status of its faults. */
class HeadScanner {
  #limits: Http1Limits;
  #status: number;
  #parts: Buffer[] = [];
  #size = 0;
  /** How much of CR LF CR LF was just seen. */
  #matched = 0;
  /** Before the first octet of the head, empty lines are skipped. */
  #leading = 0;

  constructor(limits: Http1Limits, status: number) {
    this.#limits = limits;
    this.#status = status;
  }

  /** True between the first octet of a head and its end. */
  get started(): boolean {
    return this.#size > 0;
  }

  reset(): void {
    this.#parts = [];
    this.#size = 0;
    this.#matched = 0;
    this.#leading = 0;
  }

  /** Eats chunk from `from`. Returns the text of the head without its last empty line once complete, and where it ended. */
  scan(chunk: Buffer, from: number): { at: number; text: string | undefined } {
    let at = this.#size === 0 ? this.#skipEmptyLines(chunk, from) : from;
    const start = at;
    let matched = this.#matched;
    const end = Math.min(chunk.length, at + this.#limits.headSize + 4 - this.#size);
    while (at < end && matched < 4) {
      const octet = chunk[at++] ?? 0;
      if (octet >= 0x20 && octet !== 0x7f) {
        if (matched & 1) throw this.#fault('CR without LF');
        matched = 0;
      } else if (octet === CR) {
        if (matched & 1) throw this.#fault('CR without LF');
        matched++;
      } else if (octet === LF) {
        if (!(matched & 1)) throw this.#fault('LF without CR');
        matched++;
      } else if (octet === TAB && !(matched & 1)) {
        matched = 0;
      } else throw this.#fault(matched & 1 ? 'CR without LF' : 'a control character');
    }
    this.#matched = matched;
    this.#size += at - start;
    if (matched < 4) {
      if (this.#size > this.#limits.headSize) throw new Http1Fault(this.#status === 400 ? 431 : 502, 'head too large');
      if (at > start) this.#parts.push(Buffer.from(chunk.subarray(start, at)));
      return { at, text: undefined };
    }
    const whole = this.#parts.length === 0 ? chunk.toString('latin1', start, at - 4) : this.#join(chunk.subarray(start, at));
    return { at, text: whole };
  }

  #join(last: Uint8Array): string {
    const whole = Buffer.concat([...this.#parts, last]);
    return whole.toString('latin1', 0, whole.length - 4);
  }

  #skipEmptyLines(chunk: Buffer, at: number): number {
    if (this.#status !== 400) return at;
    while (at < chunk.length && (chunk[at] === CR || chunk[at] === LF)) {
      if (chunk[at] !== (this.#leading & 1 ? LF : CR)) throw this.#fault('a broken empty line');
      if (++this.#leading > MAX_LEADING) throw this.#fault('too many empty lines');
      at++;
    }
    if (at < chunk.length && this.#leading & 1) throw this.#fault('CR without LF');
    return at;
  }

  #fault(what: string): Http1Fault {
    return new Http1Fault(this.#status, `${what} in the head`);
  }
}

/** Request heads, one after the other. */
export class RequestScanner {
  #scanner: HeadScanner;
  #limits: Http1Limits;
  /** The head that push() completed. */
  head: RequestHead | undefined;

  constructor(limits: Http1Limits) {
    this.#limits = limits;
    this.#scanner = new HeadScanner(limits, 400);
  }

  /** A head has begun: an end of the connection now would cut it. */
  get started(): boolean {
    return this.#scanner.started;
  }

  /** Returns where it stopped: behind the head when `head` is set. Throws Http1Fault 400, 426, 431 or 505. */
  push(chunk: Buffer, from: number): number {
    const { at, text } = this.#scanner.scan(chunk, from);
    if (text === undefined) return at;
    this.#scanner.reset();
    const end = lineEnd(text);
    const [method = '', target = '', protocol = '', ...more] = text.slice(0, end).split(' ');
    if (!isToken(method) || more.length > 0) throw new Http1Fault(400, 'no request line');
    const version = requestVersion(protocol, this.#limits);
    if (!isTarget(method, target)) throw new Http1Fault(400, `request target ${JSON.stringify(target.slice(0, 64))}`);
    this.head = { method, target, version, headers: parseFields(text, end + 2, this.#limits.headers, 400) };
    checkHost(this.head);
    return at;
  }
}

/** Response heads, one after the other. */
export class ResponseScanner {
  #scanner: HeadScanner;
  #limits: Http1Limits;
  /** The head that push() completed. */
  head: ResponseHead | undefined;

  constructor(limits: Http1Limits) {
    this.#limits = limits;
    this.#scanner = new HeadScanner(limits, 502);
  }

  get started(): boolean {
    return this.#scanner.started;
  }

  /** Returns where it stopped: behind the head when `head` is set. Throws Http1Fault 502. */
  push(chunk: Buffer, from: number): number {
    const { at, text } = this.#scanner.scan(chunk, from);
    if (text === undefined) return at;
    this.#scanner.reset();
    const end = lineEnd(text);
    const match = /^HTTP\/(1\.[01]) ([1-9]\d\d)(?: (.*))?$/u.exec(text.slice(0, end));
    if (!match) throw new Http1Fault(502, 'no HTTP/1.x status line');
    const [, version = '1.1', status = '', reason = ''] = match;
    this.head = {
      status: Number(status),
      reason,
      version: version as Version,
      headers: parseFields(text, end + 2, this.#limits.headers, 502),
    };
    return at;
  }
}

function requestVersion(protocol: string, limits: Http1Limits): Version {
  if (protocol === 'HTTP/1.1') return '1.1';
  if (protocol === 'HTTP/1.0') {
    if (limits.http10) return '1.0';
    throw new Http1Fault(426, 'HTTP/1.0 is not taken here');
  }
  throw new Http1Fault(/^HTTP\/\d\.\d$/u.test(protocol) ? 505 : 400, 'no HTTP/1.1 request line');
}

function lineEnd(text: string, from = 0): number {
  const end = text.indexOf('\r\n', from);
  return end < 0 ? text.length : end;
}

/** The field lines of `text` from `at` on; names become lower case. The scanner has refused control characters. */
export function parseFields(text: string, at: number, maxFields: number, status: number): Header[] {
  const headers: Header[] = [];
  while (at < text.length) {
    const end = lineEnd(text, at);
    const colon = text.indexOf(':', at);
    const name = text.slice(at, colon < 0 || colon > end ? end : colon);
    // A name is a token, so this also refuses white space before the colon and folded lines.
    if (!isToken(name) || colon < 0 || colon > end)
      throw new Http1Fault(status, `field line ${JSON.stringify(name.slice(0, 64))}`);
    if (headers.length === maxFields) throw new Http1Fault(status === 400 ? 431 : status, `more than ${maxFields} fields`);
    headers.push([name.toLowerCase(), trim(text, colon + 1, end)]);
    at = end + 2;
  }
  return headers;
}

function trim(text: string, from: number, to: number): string {
  while (from < to && isSpace(text.charCodeAt(from))) from++;
  while (to > from && isSpace(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === TAB;
}
