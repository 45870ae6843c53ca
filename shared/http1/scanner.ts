// Finds and parses the head of a message in a stream of chunks. Octets are looked at once, for the end of the head and for what is
// forbidden; a head within one chunk, the usual case, is not copied.
import { Buffer } from 'node:buffer';
import type { Header } from '../http2/headers.ts';
import { checkHost, type RequestHead, type ResponseHead, type Version } from './head.ts';
import { Http1Fault, type Http1Limits, isTarget, isToken } from './strictness.ts';

const CR = 13;
const LF = 10;
const TAB = 9;
const SPACE = 0x20;

/** Empty lines that may stand before a request line (RFC 9112, section 2.2), in octets. */
const MAX_LEADING = 8;

/** Scans one head; reset() for the next. `fault`: the status of its faults. */
class HeadScanner {
  #limits: Http1Limits;
  #status: number;
  /** What came of the head in earlier chunks. */
  #kept: Buffer | undefined;
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
    this.#kept = undefined;
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
      if (at > start) this.#keep(chunk, start, at);
      return { at, text: undefined };
    }
    if (!this.#kept) return { at, text: chunk.toString('latin1', start, at - 4) };
    return { at, text: this.#keep(chunk, start, at).toString('latin1', 0, this.#size - 4) };
  }

  /** Appends chunk[start, end), of which `#size` knows already. One buffer that grows: a peer may send an octet at a time. */
  #keep(chunk: Buffer, start: number, end: number): Buffer {
    const length = this.#size - (end - start);
    let kept = this.#kept;
    if (!kept || kept.length < this.#size) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.#size * 2, this.#limits.headSize + 4));
      kept?.copy(larger, 0, 0, length);
      this.#kept = kept = larger;
    }
    chunk.copy(kept, length, start, end);
    return kept;
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
    const end = lineEnd(text, 0);
    const first = text.indexOf(' ');
    const second = text.indexOf(' ', first + 1);
    if (first < 0 || second < 0 || second > end) throw new Http1Fault(400, 'no request line');
    const method = text.slice(0, first);
    const target = text.slice(first + 1, second);
    if (!isToken(method)) throw new Http1Fault(400, 'no request line');
    const version = requestVersion(text.slice(second + 1, end), this.#limits);
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
    const end = lineEnd(text, 0);
    const version = text.startsWith('HTTP/1.1 ') ? '1.1' : text.startsWith('HTTP/1.0 ') ? '1.0' : undefined;
    const status = statusCode(text);
    // Three digits, then the end or a space and the reason.
    if (version === undefined || status === 0 || (end !== 12 && text.charCodeAt(12) !== SPACE))
      throw new Http1Fault(502, 'no HTTP/1.x status line');
    const headers = parseFields(text, end + 2, this.#limits.headers, 502);
    this.head = { status, reason: text.slice(13, end), version, headers };
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

/** Of a status line: the number behind the version, 0 when there is none. */
function statusCode(text: string): number {
  let status = 0;
  for (let at = 9; at < 12; at += 1) {
    const digit = text.charCodeAt(at) - 0x30;
    // Also what charCodeAt() gives behind the end, which is no number.
    if (!(digit >= 0 && digit <= 9)) return 0;
    status = status * 10 + digit;
  }
  return status < 100 ? 0 : status;
}

/** The scanner lets no CR pass that has no LF behind it. */
function lineEnd(text: string, from: number): number {
  const end = text.indexOf('\r', from);
  return end < 0 ? text.length : end;
}

/**
 * Names that most fields have, as they are usually written, to their lower case. One from here needs no check, and comparing it with a
 * literal compares two pointers.
 */
const COMMON_NAMES = new Map<string, string>();
for (const name of (
  'accept accept-encoding accept-language accept-ranges access-control-allow-origin age allow authorization baggage cache-control ' +
  'connection content-disposition content-encoding content-language content-length content-type cookie date etag expect expires ' +
  'forwarded grpc-encoding grpc-message grpc-status grpc-timeout host if-modified-since if-none-match keep-alive last-modified ' +
  'location origin pragma range referer retry-after server set-cookie strict-transport-security te trailer transfer-encoding ' +
  'traceparent tracestate upgrade user-agent vary via x-b3-sampled x-b3-spanid x-b3-traceid x-envoy-upstream-service-time ' +
  'x-forwarded-for x-forwarded-host x-forwarded-proto x-powered-by x-real-ip x-request-id'
).split(' ')) {
  COMMON_NAMES.set(name, name);
  COMMON_NAMES.set(
    name.replaceAll(/\b[a-z]/gu, (letter) => letter.toUpperCase()),
    name,
  );
}

/** The field lines of `text` from `at` on; names become lower case. The scanner has refused control characters. */
export function parseFields(text: string, at: number, maxFields: number, status: number): Header[] {
  const headers: Header[] = [];
  while (at < text.length) {
    const end = lineEnd(text, at);
    const colon = text.indexOf(':', at);
    const written = text.slice(at, colon < 0 || colon > end ? end : colon);
    // A name is a token, so this also refuses white space before the colon and folded lines.
    if (colon < 0 || colon > end) throw fieldFault(status, written);
    const name = COMMON_NAMES.get(written) ?? lowerCase(written, status);
    if (headers.length === maxFields) throw new Http1Fault(status === 400 ? 431 : status, `more than ${maxFields} fields`);
    headers.push([name, trimmed(text, colon + 1, end)]);
    at = end + 2;
  }
  return headers;
}

function lowerCase(name: string, status: number): string {
  if (!isToken(name)) throw fieldFault(status, name);
  return name.toLowerCase();
}

function fieldFault(status: number, name: string): Http1Fault {
  return new Http1Fault(status, `field line ${JSON.stringify(name.slice(0, 64))}`);
}

function trimmed(text: string, from: number, to: number): string {
  while (from < to && isSpace(text.charCodeAt(from))) from++;
  while (to > from && isSpace(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}

function isSpace(code: number): boolean {
  return code === SPACE || code === TAB;
}
