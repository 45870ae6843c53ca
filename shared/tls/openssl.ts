// OpenSSL as the node binary exports it, bound once per thread. Its pointers, which are numbers here (user space ends at 2^47), stay in
// this folder.
import koffi from 'koffi';
import { MeshError } from '../errors.ts';
import { checked, type Shape } from '../os/pointer-check.ts';
import { alpnType, selectAlpn } from './alpn.ts';
import { OPENSSL_RULES } from './openssl-check.ts';

export type Pointer = number;
type Bytes = Uint8Array | null;

/** Answers of SSL_get_error. */
export const SSL_ERROR = { SSL: 1, WANT_READ: 2, ZERO_RETURN: 6 } as const;
/** What SSL_key_update asks of the peer: new keys of its own too, or nothing. */
export const KEY_UPDATE = { NOT_REQUESTED: 0, REQUESTED: 1 } as const;
/** ERR_LIB_SSL, in the bits of an error code that name the library. */
const OF_SSL = 20n << 23n;
const LIBRARY = 0xffn << 23n;
export const SSL_CTRL = {
  MODE: 33,
  SESS_CACHE_MODE: 44,
  CHAIN_CERT: 89,
  SET_GROUPS_LIST: 92,
  MIN_PROTO: 123,
  MAX_PROTO: 124,
} as const;
export const BIO_C_SET_BUF_MEM = 114;
/** MOVING_WRITE_BUFFER | NO_AUTO_CHAIN (else each handshake looks for our own chain, and verifies it) | RELEASE_BUFFERS. */
export const SSL_MODE = 0x2 | 0x8 | 0x10;
/** No TLS 1.2 tickets, no compression, no renegotiation, and no certificate compression, which would triple a handshake's cost. */
export const SSL_OPTIONS = (1n << 14n) | (1n << 17n) | (1n << 30n) | (1n << 32n) | (1n << 33n);
/** PEER | FAIL_IF_NO_PEER_CERT. */
export const SSL_VERIFY = 0x1 | 0x2;

export interface OpenSsl {
  TLS_method(): Pointer;
  SSL_CTX_new(method: Pointer): Pointer;
  SSL_CTX_free(context: Pointer): void;
  SSL_CTX_ctrl(context: Pointer, command: number, value: number, argument: Pointer): number;
  SSL_CTX_set_groups(context: Pointer, command: number, value: number, list: string): number;
  SSL_CTX_set_options(context: Pointer, options: bigint): bigint | number;
  SSL_CTX_set_num_tickets(context: Pointer, count: number): number;
  SSL_CTX_set_ciphersuites(context: Pointer, list: string): number;
  SSL_CTX_set_cipher_list(context: Pointer, list: string): number;
  SSL_CTX_set_verify(context: Pointer, mode: number, callback: null): void;
  SSL_CTX_use_certificate(context: Pointer, certificate: Pointer): number;
  SSL_CTX_use_PrivateKey(context: Pointer, key: Pointer): number;
  SSL_CTX_check_private_key(context: Pointer): number;
  SSL_CTX_get_cert_store(context: Pointer): Pointer;
  SSL_CTX_set_alpn_select_cb(context: Pointer, callback: bigint, argument: number): void;
  X509_STORE_add_cert(store: Pointer, certificate: Pointer): number;
  d2i_X509(certificate: null, from: Bytes, length: number): Pointer;
  d2i_AutoPrivateKey(key: null, from: Bytes, length: number): Pointer;
  X509_free(certificate: Pointer): void;
  EVP_PKEY_free(key: Pointer): void;
  SSL_new(context: Pointer): Pointer;
  SSL_free(ssl: Pointer): void;
  SSL_set_bio(ssl: Pointer, read: Pointer, write: Pointer): void;
  SSL_set_accept_state(ssl: Pointer): void;
  SSL_set_connect_state(ssl: Pointer): void;
  SSL_set_alpn_protos(ssl: Pointer, protocols: Bytes, length: number): number;
  SSL_get0_alpn_selected(ssl: Pointer, data: Bytes, length: Bytes): void;
  SSL_do_handshake(ssl: Pointer): number;
  SSL_read(ssl: Pointer, into: Uint8Array, length: number): number;
  SSL_write(ssl: Pointer, from: Uint8Array, length: number): number;
  SSL_shutdown(ssl: Pointer): number;
  SSL_key_update(ssl: Pointer, type: number): number;
  SSL_get_error(ssl: Pointer, result: number): number;
  SSL_get_verify_result(ssl: Pointer): number;
  SSL_get0_peer_certificate(ssl: Pointer): Pointer;
  SSL_get0_verified_chain(ssl: Pointer): Pointer;
  OPENSSL_sk_num(stack: Pointer): number;
  OPENSSL_sk_value(stack: Pointer, index: number): Pointer;
  i2d_X509(certificate: Pointer, to: Bytes): number;
  X509_get_ext_by_NID(certificate: Pointer, nid: number, after: number): number;
  X509_get_ext(certificate: Pointer, index: number): Pointer;
  X509_EXTENSION_get_data(extension: Pointer): Pointer;
  X509_get0_serialNumber(certificate: Pointer): Pointer;
  ASN1_STRING_get0_data(string: Pointer): Pointer;
  ASN1_STRING_length(string: Pointer): number;
  BIO_s_mem(): Pointer;
  BIO_new(method: Pointer): Pointer;
  BIO_up_ref(bio: Pointer): number;
  BIO_ctrl(bio: Pointer, command: number, value: number, argument: Pointer): number;
  BIO_set_flags(bio: Pointer, flags: number): void;
  CRYPTO_malloc(size: number, file: string, line: number): Pointer;
  ERR_get_error(): number | bigint;
  ERR_peek_last_error(): number | bigint;
  ERR_clear_error(): void;
  ERR_reason_error_string(code: number | bigint): string | null;
  X509_verify_cert_error_string(code: number): string | null;
  /** C function pointer of the one ALPN callback; `argument` is what SSL_CTX_set_alpn_select_cb was given. */
  alpnCallback: bigint;
}

const SHAPES: Partial<Record<keyof OpenSsl, Shape>> = {
  SSL_CTX_new: 'address -> context',
  SSL_CTX_free: '~context',
  SSL_CTX_ctrl: 'context',
  SSL_CTX_set_groups: 'context',
  SSL_CTX_set_options: 'context',
  SSL_CTX_set_num_tickets: 'context',
  SSL_CTX_set_ciphersuites: 'context',
  SSL_CTX_set_cipher_list: 'context',
  SSL_CTX_set_verify: 'context',
  SSL_CTX_use_certificate: 'context certificate',
  SSL_CTX_use_PrivateKey: 'context key',
  SSL_CTX_check_private_key: 'context',
  SSL_CTX_get_cert_store: 'context',
  SSL_CTX_set_alpn_select_cb: 'context - context',
  X509_STORE_add_cert: 'address certificate',
  d2i_X509: '- >=8 - -> certificate',
  d2i_AutoPrivateKey: '- >=8 - -> key',
  X509_free: '~certificate',
  EVP_PKEY_free: '~key',
  SSL_new: 'context -> session',
  SSL_free: '~session',
  SSL_set_bio: 'session bio bio',
  SSL_set_accept_state: 'session',
  SSL_set_connect_state: 'session',
  SSL_set_alpn_protos: 'session array size',
  SSL_get0_alpn_selected: 'session >=8 >=4',
  SSL_do_handshake: 'session',
  SSL_read: 'session array size',
  SSL_write: 'session array size',
  SSL_shutdown: 'session',
  SSL_key_update: 'session',
  SSL_get_error: 'session',
  SSL_get_verify_result: 'session',
  SSL_get0_peer_certificate: 'session',
  SSL_get0_verified_chain: 'session',
  OPENSSL_sk_num: 'address',
  OPENSSL_sk_value: 'address',
  i2d_X509: 'address array',
  X509_get_ext_by_NID: 'address',
  X509_get_ext: 'address',
  X509_EXTENSION_get_data: 'address',
  X509_get0_serialNumber: 'address',
  ASN1_STRING_get0_data: 'address',
  ASN1_STRING_length: 'address',
  BIO_new: 'address -> bio',
  BIO_up_ref: 'bio',
  BIO_ctrl: 'bio',
  BIO_set_flags: 'bio',
  CRYPTO_malloc: '- - - -> memory',
};

let bound: OpenSsl | undefined;

export function openssl(): OpenSsl {
  bound ??= bind();
  return bound;
}

/** Empties the error queue; the text of its first entry. */
export function takeError(fallback: string): string {
  const code = openssl().ERR_get_error();
  openssl().ERR_clear_error();
  return (code === 0 ? null : openssl().ERR_reason_error_string(code)) ?? fallback;
}

/** Whether the last error is one of TLS, and not something that other users of the thread's OpenSSL left behind. */
export function lastErrorIsOfTls(): boolean {
  return (BigInt(openssl().ERR_peek_last_error()) & LIBRARY) === OF_SSL;
}

/** Passes a result above 0 on. */
export function must(result: number, what: string): number {
  if (result <= 0) throw new MeshError('invalid_config', `${what}: ${takeError('refused by OpenSSL')}`);
  return result;
}

function bind(): OpenSsl {
  const library = koffi.load(null);
  const func = (result: string, name: string, ...values: string[]): ReturnType<typeof library.func> =>
    library.func(name, result, values);
  const [p, bytes] = ['size_t', 'void *'];
  const alpn = alpnType();
  const calls: OpenSsl = {
    TLS_method: func(p, 'TLS_method'),
    SSL_CTX_new: func(p, 'SSL_CTX_new', p),
    SSL_CTX_free: func('void', 'SSL_CTX_free', p),
    SSL_CTX_ctrl: func('long', 'SSL_CTX_ctrl', p, 'int', 'long', p),
    SSL_CTX_set_groups: func('long', 'SSL_CTX_ctrl', p, 'int', 'long', 'const char *'),
    SSL_CTX_set_options: func('uint64', 'SSL_CTX_set_options', p, 'uint64'),
    SSL_CTX_set_num_tickets: func('int', 'SSL_CTX_set_num_tickets', p, 'size_t'),
    SSL_CTX_set_ciphersuites: func('int', 'SSL_CTX_set_ciphersuites', p, 'const char *'),
    SSL_CTX_set_cipher_list: func('int', 'SSL_CTX_set_cipher_list', p, 'const char *'),
    SSL_CTX_set_verify: func('void', 'SSL_CTX_set_verify', p, 'int', bytes),
    SSL_CTX_use_certificate: func('int', 'SSL_CTX_use_certificate', p, p),
    SSL_CTX_use_PrivateKey: func('int', 'SSL_CTX_use_PrivateKey', p, p),
    SSL_CTX_check_private_key: func('int', 'SSL_CTX_check_private_key', p),
    SSL_CTX_get_cert_store: func(p, 'SSL_CTX_get_cert_store', p),
    SSL_CTX_set_alpn_select_cb: library.func('SSL_CTX_set_alpn_select_cb', 'void', [p, alpn, p]),
    X509_STORE_add_cert: func('int', 'X509_STORE_add_cert', p, p),
    d2i_X509: func(p, 'd2i_X509', bytes, bytes, 'long'),
    d2i_AutoPrivateKey: func(p, 'd2i_AutoPrivateKey', bytes, bytes, 'long'),
    X509_free: func('void', 'X509_free', p),
    EVP_PKEY_free: func('void', 'EVP_PKEY_free', p),
    SSL_new: func(p, 'SSL_new', p),
    SSL_free: func('void', 'SSL_free', p),
    SSL_set_bio: func('void', 'SSL_set_bio', p, p, p),
    SSL_set_accept_state: func('void', 'SSL_set_accept_state', p),
    SSL_set_connect_state: func('void', 'SSL_set_connect_state', p),
    SSL_set_alpn_protos: func('int', 'SSL_set_alpn_protos', p, bytes, 'uint'),
    SSL_get0_alpn_selected: func('void', 'SSL_get0_alpn_selected', p, bytes, bytes),
    SSL_do_handshake: func('int', 'SSL_do_handshake', p),
    SSL_read: func('int', 'SSL_read', p, bytes, 'int'),
    SSL_write: func('int', 'SSL_write', p, bytes, 'int'),
    SSL_shutdown: func('int', 'SSL_shutdown', p),
    SSL_key_update: func('int', 'SSL_key_update', p, 'int'),
    SSL_get_error: func('int', 'SSL_get_error', p, 'int'),
    SSL_get_verify_result: func('long', 'SSL_get_verify_result', p),
    SSL_get0_peer_certificate: func(p, 'SSL_get0_peer_certificate', p),
    SSL_get0_verified_chain: func(p, 'SSL_get0_verified_chain', p),
    OPENSSL_sk_num: func('int', 'OPENSSL_sk_num', p),
    OPENSSL_sk_value: func(p, 'OPENSSL_sk_value', p, 'int'),
    i2d_X509: func('int', 'i2d_X509', p, bytes),
    X509_get_ext_by_NID: func('int', 'X509_get_ext_by_NID', p, 'int', 'int'),
    X509_get_ext: func(p, 'X509_get_ext', p, 'int'),
    X509_EXTENSION_get_data: func(p, 'X509_EXTENSION_get_data', p),
    X509_get0_serialNumber: func(p, 'X509_get0_serialNumber', p),
    ASN1_STRING_get0_data: func(p, 'ASN1_STRING_get0_data', p),
    ASN1_STRING_length: func('int', 'ASN1_STRING_length', p),
    BIO_s_mem: func(p, 'BIO_s_mem'),
    BIO_new: func(p, 'BIO_new', p),
    BIO_up_ref: func('int', 'BIO_up_ref', p),
    BIO_ctrl: func('long', 'BIO_ctrl', p, 'int', 'long', p),
    BIO_set_flags: func('void', 'BIO_set_flags', p, 'int'),
    CRYPTO_malloc: func(p, 'CRYPTO_malloc', 'size_t', 'const char *', 'int'),
    ERR_get_error: func('ulong', 'ERR_get_error'),
    ERR_peek_last_error: func('ulong', 'ERR_peek_last_error'),
    ERR_clear_error: func('void', 'ERR_clear_error'),
    ERR_reason_error_string: func('const char *', 'ERR_reason_error_string', 'ulong'),
    X509_verify_cert_error_string: func('const char *', 'X509_verify_cert_error_string', 'long'),
    alpnCallback: koffi.register(selectAlpn, alpn),
  };
  return checked(calls, SHAPES, OPENSSL_RULES);
}
