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

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/u;

export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** A request target: visible ASCII, and of the form that its method calls for (RFC 9112, section 3.2). */
export function isTarget(method: string, target: string): boolean {
  if (!/^[\u0021-\u007e]+$/u.test(target)) return false;
  if (method === 'CONNECT') return /^[^/?#@]+:\d+$/u.test(target);
  return target.startsWith('/') || target === '*' || /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/?#]+/u.test(target);
}

/** `name`, `name:port`, `[v6]:port`, or empty. */
export function isHost(text: string): boolean {
  return /^([A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(:\d*)?$/u.test(text);
}

/** The length of a single content-length field; undefined when it is no plain decimal number. */
export function parseLength(text: string): number | undefined {
  return /^\d{1,15}$/u.test(text) ? Number(text) : undefined;
}
