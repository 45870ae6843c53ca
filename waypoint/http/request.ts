// The head of a request or response on its way through the waypoint: headers as an ordered list with lower-case names, the request's
// pseudo headers beside them.
import type { HostPort } from '#shared/address.ts';
import type { Header } from '#shared/http2/headers.ts';

/** Never changed: the decoders of HTTP/1.1 and HTTP/2 hand out the same pair again. */
export type HeaderPair = Header;

/** Few headers, so a scan beats a map; order and repeated names are kept. */
export class Headers {
  readonly pairs: HeaderPair[];

  /** Owns the list from now on. */
  constructor(pairs: HeaderPair[] = []) {
    this.pairs = pairs;
  }

  /** All values joined with a comma, as RFC 9110 5.2 has it; undefined when there is none. */
  get(name: string): string | undefined {
    let found: string | undefined;
    for (const pair of this.pairs) if (pair[0] === name) found = found === undefined ? pair[1] : `${found},${pair[1]}`;
    return found;
  }

  has(name: string): boolean {
    for (const pair of this.pairs) if (pair[0] === name) return true;
    return false;
  }

  /** Whether one of its values passes; undefined when there is none. Values are never joined: who sends one twice must not hide it. */
  some(name: string, test: (value: string) => boolean): boolean | undefined {
    let found: false | undefined;
    for (const pair of this.pairs) {
      if (pair[0] !== name) continue;
      if (test(pair[1])) return true;
      found = false;
    }
    return found;
  }

  append(name: string, value: string): void {
    this.pairs.push([name, value]);
  }

  /** One value in place of all. */
  set(name: string, value: string): void {
    this.remove(name);
    this.pairs.push([name, value]);
  }

  remove(name: string): void {
    if (this.has(name)) this.drop((own) => own === name);
  }

  /** Removes what the test says. */
  drop(test: (name: string, value: string) => boolean): void {
    const { pairs } = this;
    let kept = 0;
    for (const pair of pairs) if (!test(pair[0], pair[1])) pairs[kept++] = pair;
    // A shorter list keeps its memory, which the next append() uses.
    if (kept < pairs.length) pairs.length = kept;
  }
}

/** Who is at the other end of the tunnel that a connection came through, and where it was meant to go. */
export interface ConnectionInfo {
  /** SPIFFE ID from the client's certificate. */
  readonly peer: string;
  /** Our own, as the client saw it. */
  readonly local: string;
  /** Where the client comes from. */
  readonly remote: HostPort;
  /** What the client dialled: the CONNECT authority. */
  readonly destination: HostPort;
}

export interface RequestHead {
  method: string;
  /** With the query. */
  path: string;
  authority: string;
  scheme: string;
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2';
  readonly headers: Headers;
}

export interface ResponseHead {
  status: number;
  readonly headers: Headers;
}

/** Headers.some() by name, pseudo headers included. */
export function someValue(head: RequestHead, name: string, test: (value: string) => boolean): boolean | undefined {
  switch (name) {
    case ':method':
      return test(head.method);
    case ':path':
      return test(head.path);
    case ':authority':
    case 'host':
      return test(head.authority);
    case ':scheme':
      return test(head.scheme);
    default:
      return head.headers.some(name, test);
  }
}

/** The path without query and fragment. */
export function pathOnly(path: string): string {
  const end = queryStart(path);
  return end === -1 ? path : path.slice(0, end);
}

const QUESTION_MARK = 0x3f;
const HASH = 0x23;

/** Where query or fragment begin; -1 when there are none. */
export function queryStart(path: string): number {
  for (let at = 0; at < path.length; at += 1) {
    const code = path.charCodeAt(at);
    if (code === QUESTION_MARK || code === HASH) return at;
  }
  return -1;
}
