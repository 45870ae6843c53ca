// What an HTTP/1.1 message may look like here. Where the standard lets a recipient be lenient, two recipients can read one message as
// two different ones (request smuggling), so anything ambiguous is refused, with the status that says so (RFC 9112).
import { MeshError } from '../errors.ts';

export interface Http1Limits {
  /** Octets of request or status line and header section. */
  headSize: number;
  /** Fields of a head, or of trailers. */
  headers: number;
  /** Octets of trailers. */
  trailerSize: number;
  /** Octets of chunk extensions in one body; they are ignored, and only an attack has many. */
  chunkExtensions: number;
  /** Take HTTP/1.0 requests; else they are answered 426. Responses of HTTP/1.0 are always taken. */
  http10: boolean;
}

export const DEFAULT_LIMITS: Http1Limits = {
  headSize: 61_440,
  headers: 100,
  trailerSize: 8192,
  chunkExtensions: 4096,
  http10: false,
};

/** The peer's message is refused. `status` is the answer to a request; a bad response is 502 to whoever asked. */
export class Http1Fault extends MeshError {
  readonly #status: number;

  constructor(status: number, message: string) {
    super(status === 502 ? 'protocol_error' : 'bad_request', message);
    this.#status = status;
  }

  override get status(): number {
    return this.#status;
  }
}

// These run for every field of every message, where a loop over codes is several times faster than a regular expression.

/** What each octet may be part of. */
const OCTETS = new Uint8Array(128);
const TOKEN = 1;
const HOST = 2;
const TARGET = 4;
const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
for (const octet of `!#$%&'*+-.^_\`|~${ALPHANUMERIC}`) mark(octet.charCodeAt(0), TOKEN);
for (const octet of `-._~!$&'()*+,;=%${ALPHANUMERIC}`) mark(octet.charCodeAt(0), HOST);
for (let octet = 0x21; octet <= 0x7e; octet += 1) mark(octet, TARGET);

function mark(octet: number, kind: number): void {
  OCTETS[octet] = (OCTETS[octet] ?? 0) | kind;
}

function consistsOf(kind: number, text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (((OCTETS[text.charCodeAt(i)] ?? 0) & kind) === 0) return false;
  return true;
}

export function isToken(text: string): boolean {
  return text.length > 0 && consistsOf(TOKEN, text);
}

const SLASH = 0x2f;

/**
 * A request target: visible ASCII, and of the form that its method calls for (RFC 9112, section 3.2). A fragment behind a path is for the
 * user to refuse, with an answer and a log line of its own; of an absolute target users take the path alone, so it is refused here.
 */
export function isTarget(method: string, target: string): boolean {
  if (!consistsOf(TARGET, target)) return false;
  if (method === 'CONNECT') return /^[^/?#@]+:\d+$/u.test(target);
  return target.charCodeAt(0) === SLASH || target === '*' || /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/?#]+[^#]*$/u.test(target);
}

/** `name`, `name:port`, `[v6]:port`, or empty. */
export function isHost(text: string): boolean {
  return consistsOf(HOST, text) || /^([A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(:\d*)?$/u.test(text);
}

/** The length of a single content-length field; undefined when it is no plain decimal number. */
export function parseLength(text: string): number | undefined {
  return /^\d{1,15}$/u.test(text) ? Number(text) : undefined;
}
