// Header lists of HTTP/2 and the rules a well-formed one keeps (RFC 9113, section 8). A list that breaks them could turn into a
// different message when a proxy writes it as HTTP/1.1, so it is refused as malformed.
import { MeshError } from '../errors.ts';

/** Names are lower case. */
export type Header = readonly [name: string, value: string];
/** Order is kept; a name may occur more than once. */
export type HeaderList = readonly Header[];

/** The first value of a name; undefined when there is none. */
export function header(headers: HeaderList, name: string): string | undefined {
  for (const [own, value] of headers) if (own === name) return value;
  return undefined;
}

const REQUEST_PSEUDO = new Set([':method', ':scheme', ':authority', ':path', ':protocol']);
const RESPONSE_PSEUDO = new Set([':status']);
const NO_PSEUDO: ReadonlySet<string> = new Set();
/** They concern one HTTP/1.1 connection and mean nothing here. */
/** They would change how a message is framed or routed, where trailers become those of HTTP/1.1 (RFC 9110, section 6.5.1). */
const NOT_BEHIND_A_BODY = new Set(['content-length', 'host', 'te', 'trailer']);
const CONNECTION_SPECIFIC = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

// These run for every field of every request, where a loop over codes is several times faster than a regular expression.

/** 1 for the octets of a lower-case field name. */
const NAME_OCTETS = new Uint8Array(128);
for (const octet of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") NAME_OCTETS[octet.charCodeAt(0)] = 1;

function isName(name: string, from = 0): boolean {
  for (let i = from; i < name.length; i++) if (NAME_OCTETS[name.charCodeAt(i)] !== 1) return false;
  return name.length > from;
}

const TAB = 9;
const SPACE = 0x20;
const COLON = 0x3a;
const NOTHING: Header = ['', ''];

/** No control but TAB, and nothing that is no octet. */
function isValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if ((code < SPACE && code !== TAB) || code === 0x7f || code > 0xff) return false;
  }
  return true;
}

/** White space at an end. */
function isPadded(value: string): boolean {
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(value.length - 1);
  return first === SPACE || first === TAB || last === SPACE || last === TAB;
}

/** What is wrong with a received request, or undefined. */
export function requestFault(headers: HeaderList): string | undefined {
  const fault = listFault(headers, REQUEST_PSEUDO);
  if (fault !== undefined) return fault;
  const method = header(headers, ':method');
  const path = header(headers, ':path');
  const scheme = header(headers, ':scheme');
  const authority = header(headers, ':authority');
  const protocol = header(headers, ':protocol');
  if (method === undefined || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/u.test(method)) return ':method is missing or no token';
  if (method === 'CONNECT' && protocol === undefined) {
    if (authority === undefined || authority === '') return 'CONNECT without :authority';
    return path === undefined && scheme === undefined ? undefined : 'CONNECT with :path or :scheme';
  }
  if (protocol !== undefined && method !== 'CONNECT') return ':protocol without CONNECT';
  if (scheme === undefined || scheme === '') return 'no :scheme';
  if (path === undefined || (!path.startsWith('/') && path !== '*') || path.includes(' ')) return ':path is missing or no path';
  return undefined;
}

/** What is wrong with a received response, or undefined. */
export function responseFault(headers: HeaderList): string | undefined {
  const fault = listFault(headers, RESPONSE_PSEUDO);
  if (fault !== undefined) return fault;
  return /^[1-9]\d\d$/u.test(header(headers, ':status') ?? '') ? undefined : ':status is missing or no status';
}

/** What is wrong with received trailers, or undefined. */
export function trailerFault(headers: HeaderList): string | undefined {
  for (const [name] of headers) if (NOT_BEHIND_A_BODY.has(name)) return `${name} in the trailers`;
  return listFault(headers, NO_PSEUDO);
}

function listFault(headers: HeaderList, pseudo: ReadonlySet<string>): string | undefined {
  let regular = false;
  for (let i = 0; i < headers.length; i++) {
    const [name, value] = headers[i] ?? NOTHING;
    if (!isValue(value)) return `the value of ${quote(name)} holds a forbidden octet`;
    if (name.charCodeAt(0) === COLON) {
      if (regular) return `${quote(name)} behind a regular field`;
      if (!pseudo.has(name)) return `${quote(name)} does not belong here`;
      for (let j = 0; j < i; j++) if (headers[j]?.[0] === name) return `${name} twice`;
      continue;
    }
    regular = true;
    if (!isName(name)) return `${quote(name)} is no lower-case field name`;
    if (CONNECTION_SPECIFIC.has(name)) return `connection-specific field ${name}`;
    if (isPadded(value)) return `the value of ${name} has white space around it`;
    if (name === 'te' && value !== 'trailers') return 'te is not "trailers"';
  }
  return undefined;
}

/** Throws `internal` when a list must not be sent: a caller that passes on foreign text is stopped here, not at the peer. */
export function assertSendable(headers: HeaderList): void {
  for (const [name, value] of headers) {
    if (!isName(name, name.charCodeAt(0) === COLON ? 1 : 0))
      throw new MeshError('internal', `header name ${quote(name)} cannot be sent`);
    if (!isValue(value) || isPadded(value))
      throw new MeshError('internal', `the value of header ${name} holds what cannot be sent`);
  }
}

/**
 * The announced body length: a number of octets, undefined when not announced, or 'bad' when it is no length or stands there twice, which
 * HTTP/1.1 would not understand.
 */
export function contentLength(headers: HeaderList): number | undefined | 'bad' {
  let length: number | undefined;
  for (const [name, value] of headers) {
    if (name !== 'content-length') continue;
    if (!/^\d{1,15}$/u.test(value)) return 'bad';
    if (length !== undefined) return 'bad';
    length = Number(value);
  }
  return length;
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 64));
}
