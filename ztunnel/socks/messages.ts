// The messages of SOCKS5 that a client sends first (RFC 1928 sections 3 and 4), and the answers. Pure.
import { ipFromBytes } from '#shared/address.ts';
import type { MeshError } from '#shared/errors.ts';
import { errorCode } from '#shared/os/errno.ts';

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const CONNECT = 1;
const ADDRESS_TYPE = { ipv4: 1, name: 3, ipv6: 4 } as const;

/** Reply codes, RFC 1928 section 6. */
export const REPLY = {
  succeeded: 0,
  failure: 1,
  notAllowed: 2,
  hostUnreachable: 4,
  refused: 5,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;
export type Reply = (typeof REPLY)[keyof typeof REPLY];

/** Version and the one method that is spoken, or that none of the offered ones is (RFC 1928 section 3). */
export const METHOD_CHOSEN = Uint8Array.of(VERSION, NO_AUTHENTICATION);
export const NO_METHOD = Uint8Array.of(VERSION, 0xff);

/** Where a client wants to go. */
export type Wish =
  | { readonly kind: 'ip'; readonly ip: string; readonly port: number }
  | { readonly kind: 'name'; readonly name: string; readonly port: number };

/** What the first bytes say: not all yet (a message has 262 bytes at most), a message of so many bytes, or what is to be answered. */
export type Reading<T> =
  | { readonly kind: 'more' }
  | { readonly kind: 'message'; readonly value: T; readonly length: number }
  | { readonly kind: 'fault'; readonly reason: string; readonly answer: Uint8Array };

const MORE = { kind: 'more' } as const;

/** The methods that a client offers. */
export function readGreeting(bytes: Uint8Array): Reading<undefined> {
  const [version, count] = bytes;
  if (version === undefined) return MORE;
  if (version !== VERSION) return fault(`version ${version} is not spoken, only 5`, NO_METHOD);
  if (count === undefined || bytes.length < 2 + count) return MORE;
  if (!bytes.subarray(2, 2 + count).includes(NO_AUTHENTICATION))
    return fault('the client offers no method without authentication', NO_METHOD);
  return { kind: 'message', value: undefined, length: 2 + count };
}

/** What a client asks for. */
export function readRequest(bytes: Uint8Array): Reading<Wish> {
  const [version, command, , type, first] = bytes;
  if (version !== undefined && version !== VERSION)
    return fault(`a request of version ${version} after a greeting of version 5`, reply(REPLY.failure));
  if (version === undefined || command === undefined || type === undefined || first === undefined) return MORE;
  const size = addressSize(type, first);
  if (size === undefined) return fault(`address type ${type} is unknown`, reply(REPLY.addressTypeNotSupported));
  const start = type === ADDRESS_TYPE.name ? 5 : 4;
  const length = start + size + 2;
  if (bytes.length < length) return MORE;
  if (command !== CONNECT) return fault(`command ${command} is not CONNECT`, reply(REPLY.commandNotSupported));
  const address = bytes.subarray(start, start + size);
  const port = ((bytes[length - 2] ?? 0) << 8) | (bytes[length - 1] ?? 0);
  if (port === 0) return fault('port 0 cannot be connected to', reply(REPLY.hostUnreachable));
  const ip = type === ADDRESS_TYPE.name ? undefined : ipFromBytes(address);
  if (ip !== undefined) return { kind: 'message', value: { kind: 'ip', ip, port }, length };
  const name = hostName(address);
  if (name === undefined) return fault('the host name has other than visible ASCII characters', reply(REPLY.hostUnreachable));
  return { kind: 'message', value: { kind: 'name', name, port }, length };
}

/** A reply without a bound address, which clients of CONNECT have no use for. */
export function reply(code: Reply): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, ADDRESS_TYPE.ipv4, 0, 0, 0, 0, 0, 0);
}

/** What a client is told of why it cannot have its connection. */
export function replyOf(error: MeshError): Reply {
  switch (error.code) {
    case 'policy_denied':
    case 'policy_changed':
    case 'self_call':
    case 'tunnel_refused':
      return REPLY.notAllowed;
    case 'connect_failed':
      return errorCode(error) === 'ECONNREFUSED' ? REPLY.refused : REPLY.hostUnreachable;
    case 'connect_timeout':
    case 'hbone_timeout':
    case 'no_healthy_upstream':
    case 'tunnel_unavailable':
    case 'unknown_destination':
      return REPLY.hostUnreachable;
    default:
      return REPLY.failure;
  }
}

function addressSize(type: number, first: number): number | undefined {
  if (type === ADDRESS_TYPE.ipv4) return 4;
  if (type === ADDRESS_TYPE.ipv6) return 16;
  return type === ADDRESS_TYPE.name ? first : undefined;
}

function hostName(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString('latin1').toLowerCase();
  return /^[\x21-\x7e]+$/u.test(text) ? text.replace(/\.$/u, '') : undefined;
}

function fault(reason: string, answer: Uint8Array): { kind: 'fault'; reason: string; answer: Uint8Array } {
  return { kind: 'fault', reason: `SOCKS5: ${reason}`, answer };
}
