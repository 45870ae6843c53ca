// The head of a request or response on its way through the waypoint: headers as an ordered list with lower-case names, the request's
// pseudo headers beside them.
import type { HostPort } from '#shared/address.ts';

export type HeaderPair = [name: string, value: string];

/** Few headers, so a scan beats a map; order and repeated names are kept. */
export class Headers {
  readonly pairs: HeaderPair[];

  constructor(pairs: HeaderPair[] = []) {
    this.pairs = pairs;
  }

  /** All values joined with a comma, as RFC 9110 5.2 has it; undefined when there is none. */
  get(name: string): string | undefined {
    let found: string | undefined;
    for (const [key, value] of this.pairs) if (key === name) found = found === undefined ? value : `${found},${value}`;
    return found;
  }

  has(name: string): boolean {
    return this.pairs.some(([key]) => key === name);
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
    for (let index = this.pairs.length - 1; index >= 0; index -= 1)
      if (this.pairs[index]?.[0] === name) this.pairs.splice(index, 1);
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

/** A header by name, pseudo headers included. */
export function lookupHeader(head: RequestHead, name: string): string | undefined {
  switch (name) {
    case ':method':
      return head.method;
    case ':path':
      return head.path;
    case ':authority':
    case 'host':
      return head.authority;
    case ':scheme':
      return head.scheme;
    default:
      return head.headers.get(name);
  }
}

/** The path without query and fragment. */
export function pathOnly(path: string): string {
  const end = path.search(/[?#]/u);
  return end === -1 ? path : path.slice(0, end);
}
