// The head of an HTTP/1.1 message as its users see it, and what follows from it: how the body is framed, whether the connection
// lives on, which fields concern this connection only.
import { header, type Header, type HeaderList } from '../http2/headers.ts';
import { Http1Fault, isHost, parseLength } from './strictness.ts';

export type Version = '1.0' | '1.1';

/** Header names are lower case, values without white space around them, order is kept. Look one up with header(). */
export interface RequestHead {
  readonly method: string;
  /** As it stood in the request line: `/path?query`, `*`, `http://host/path`, or `host:port` of CONNECT. */
  readonly target: string;
  readonly version: Version;
  /** The list is the receiver's own. */
  readonly headers: Header[];
}

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly version: Version;
  /** The list is the receiver's own. */
  readonly headers: Header[];
}

/** How the body's end is found. */
export type BodyFraming =
  | { readonly kind: 'none' }
  /** Content-Length octets; `length` may be 0. */
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  /** A response that lasts until the connection ends. */
  | { readonly kind: 'until-close' }
  /** Behind this head the connection is no longer HTTP: an accepted CONNECT or upgrade. */
  | { readonly kind: 'tunnel' };

const NONE: BodyFraming = { kind: 'none' };
const CHUNKED: BodyFraming = { kind: 'chunked' };
const TUNNEL: BodyFraming = { kind: 'tunnel' };
const UNTIL_CLOSE: BodyFraming = { kind: 'until-close' };

/** Throws Http1Fault 400 or 501 when the framing is ambiguous or unknown. */
export function requestFraming(head: RequestHead): BodyFraming {
  const announced = announcedFraming(head, 400, 501);
  // Octets behind CONNECT belong to the tunnel once it is accepted; a body would be something else to every reader.
  if (head.method === 'CONNECT' && announced && announced.kind !== 'none') throw new Http1Fault(400, 'CONNECT with a body');
  return announced ?? NONE;
}

/** `method`: of the request it answers. Throws Http1Fault 502. An interim 1xx head has framing `none`. */
export function responseFraming(head: ResponseHead, method: string): BodyFraming {
  const { status } = head;
  // A client ignores what such a head says of a body (RFC 9110, section 9.3.6).
  if (method === 'CONNECT' && status >= 200 && status < 300) return TUNNEL;
  const announced = announcedFraming(head, 502, 502);
  if (status < 200 || status === 204) {
    // Whoever believes the head reads octets of the next message, or of the tunnel, as a body (RFC 9112, section 6; RFC 9110, section 8.6).
    if (announced && !(announced.kind === 'length' && announced.length === 0))
      throw new Http1Fault(502, `a ${status} head that announces a body`);
    return status === 101 ? TUNNEL : NONE;
  }
  if (method === 'HEAD' || status === 304) return NONE;
  return announced ?? UNTIL_CLOSE;
}

function announcedFraming(head: RequestHead | ResponseHead, bad: number, unknown: number): BodyFraming | undefined {
  let length: string | undefined;
  let coding: string | undefined;
  for (const field of head.headers) {
    const name = field[0];
    const value = field[1];
    if (name === 'content-length') {
      if (length !== undefined) throw new Http1Fault(bad, 'content-length twice');
      length = value;
    } else if (name === 'transfer-encoding') {
      if (coding !== undefined) throw new Http1Fault(bad, 'transfer-encoding twice');
      coding = value;
    }
  }
  if (coding !== undefined) {
    if (length !== undefined) throw new Http1Fault(bad, 'both content-length and transfer-encoding');
    if (head.version === '1.0') throw new Http1Fault(bad, 'transfer-encoding in HTTP/1.0');
    if (coding.toLowerCase() !== 'chunked')
      throw new Http1Fault(unknown, `transfer-encoding ${JSON.stringify(coding.slice(0, 64))}`);
    return CHUNKED;
  }
  if (length === undefined) return undefined;
  const octets = parseLength(length);
  if (octets === undefined) throw new Http1Fault(bad, `content-length ${JSON.stringify(length.slice(0, 64))}`);
  return { kind: 'length', length: octets };
}

/** One Host field that is a host; HTTP/1.0 may leave it out (RFC 9112, section 3.2). Throws Http1Fault 400. */
export function checkHost(head: RequestHead): void {
  let host: string | undefined;
  for (const field of head.headers) {
    if (field[0] !== 'host') continue;
    if (host !== undefined) throw new Http1Fault(400, 'host twice');
    host = field[1];
  }
  if (host === undefined && head.version === '1.1') throw new Http1Fault(400, 'no host');
  if (host !== undefined && !isHost(host)) throw new Http1Fault(400, `host ${JSON.stringify(host.slice(0, 64))}`);
}

/** False when the connection ends behind this message. */
export function keepsAlive({ headers, version }: RequestHead | ResponseHead): boolean {
  return !hasOption(headers, 'close') && (version === '1.1' || hasOption(headers, 'keep-alive'));
}

/** The client waits for 100 before it sends its body. */
export function expectsContinue(head: RequestHead): boolean {
  return head.version === '1.1' && header(head.headers, 'expect')?.toLowerCase() === '100-continue';
}

/** The protocol that an upgrade asks for or grants, lower case, or undefined. */
export function upgradeOf(head: RequestHead | ResponseHead): string | undefined {
  const upgrade = header(head.headers, 'upgrade');
  return upgrade !== undefined && hasOption(head.headers, 'upgrade') ? upgrade.toLowerCase() : undefined;
}

const HOP_BY_HOP = new Set(
  'connection keep-alive proxy-connection te trailer transfer-encoding upgrade proxy-authenticate proxy-authorization'.split(' '),
);

/** The fields that travel on: without hop-by-hop ones and those that Connection names. The framing is for the next hop to set. */
export function endToEnd(headers: HeaderList): Header[] {
  const named = headers.flatMap(([name, value]) => (name === 'connection' ? optionsOf(value) : []));
  return headers.filter(([name]) => !HOP_BY_HOP.has(name) && !named.includes(name));
}

/** Whether a Connection field names the option. Nearly all hold just one, in lower case. */
function hasOption(headers: HeaderList, option: string): boolean {
  for (const field of headers) {
    if (field[0] !== 'connection') continue;
    const value = field[1];
    if (value === option) return true;
    if (value !== 'keep-alive' && value !== 'close' && optionsOf(value).includes(option)) return true;
  }
  return false;
}

/** What a Connection field names, in lower case. */
export function optionsOf(connection: string): string[] {
  return connection.split(',').map((option) => option.trim().toLowerCase());
}
