// TLS contexts and sessions over OpenSSL. A session turns ciphertext into plaintext and back and touches no socket: ciphertext goes
// through a pair of memory buffers of fixed size, so that a peer can never make it hold more.
import { X509Certificate } from 'node:crypto';
import type { WorkloadCertificate } from '../identity/certificate.ts';
import { MeshError } from '../errors.ts';
import { addressOf, copyOf } from '../os/syscalls.ts';
import type { PeerCertificate } from '../reactor/api.ts';
import { GROUPS, TLS12_CIPHERS, TLS13_CIPHERS, type TlsSettings } from './context.ts';
import {
  must,
  openssl,
  registerAlpn,
  SSL_CTRL,
  SSL_ERROR,
  SSL_MODE,
  SSL_OPTIONS,
  SSL_VERIFY,
  takeError,
  unregisterAlpn,
  type Pointer,
} from './openssl.ts';
import { uriSans } from './verify.ts';

/** Bytes of ciphertext from the peer that wait in a session: two full records. */
export const CIPHERTEXT_SIZE = 33_280;
/** Bytes of ciphertext for the peer that wait in a session: one full record, drained after each. */
const OUTGOING_SIZE = 17_408;
const TLS12 = 0x303;
const TLS13 = 0x304;

/** Contexts per certificate object and list of protocols; OpenSSL frees one with its last session. */
export class SslContexts {
  readonly #settings: TlsSettings;
  readonly #cache = new WeakMap<WorkloadCertificate, Map<string, SslContext>>();
  readonly #freed = new FinalizationRegistry<Pointer>((context) => {
    openssl().SSL_CTX_free(context);
    unregisterAlpn(context);
  });

  constructor(settings: TlsSettings) {
    this.#settings = settings;
  }

  get(certificate: WorkloadCertificate, alpn: readonly string[]): SslContext {
    const perAlpn = this.#cache.get(certificate) ?? new Map<string, SslContext>();
    this.#cache.set(certificate, perAlpn);
    const key = alpn.join(',');
    let context = perAlpn.get(key);
    if (!context) {
      context = new SslContext(certificate, alpn, this.#settings);
      this.#freed.register(context, context.pointer);
      perAlpn.set(key, context);
    }
    return context;
  }
}

export class SslContext {
  readonly pointer: Pointer;
  readonly #alpn: Uint8Array;

  constructor(certificate: WorkloadCertificate, alpn: readonly string[], settings: TlsSettings) {
    const ssl = openssl();
    ssl.ERR_clear_error();
    const context = must(ssl.SSL_CTX_new(ssl.TLS_method()), 'create a TLS context');
    this.pointer = context;
    this.#alpn = Buffer.concat(alpn.flatMap((name) => [Buffer.from([name.length]), Buffer.from(name, 'latin1')]));
    try {
      configure(context, settings);
      loadIdentity(context, certificate);
    } catch (thrown) {
      ssl.SSL_CTX_free(context);
      throw thrown;
    }
    registerAlpn(context, alpn);
    if (alpn.length > 0) ssl.SSL_CTX_set_alpn_select_cb(context, ssl.alpnCallback, context);
  }

  client(): SslSession {
    const session = new SslSession(this);
    openssl().SSL_set_connect_state(session.pointer);
    if (this.#alpn.length > 0) openssl().SSL_set_alpn_protos(session.pointer, this.#alpn, this.#alpn.length);
    return session;
  }

  server(): SslSession {
    const session = new SslSession(this);
    openssl().SSL_set_accept_state(session.pointer);
    return session;
  }
}

export class SslSession {
  readonly pointer: Pointer;
  /** Keeps the context from being freed while a handshake may still ask for its protocols. */
  readonly context: SslContext;
  readonly #network: Pointer;
  #freed = false;

  constructor(context: SslContext) {
    const ssl = openssl();
    this.context = context;
    ssl.ERR_clear_error();
    this.pointer = must(ssl.SSL_new(context.pointer), 'create a TLS session');
    const [inner, outer] = [Buffer.alloc(8), Buffer.alloc(8)];
    must(ssl.BIO_new_bio_pair(inner, OUTGOING_SIZE, outer, CIPHERTEXT_SIZE), 'create the buffers of a TLS session');
    const bio = Number(inner.readBigUInt64LE());
    ssl.SSL_set_bio(this.pointer, bio, bio);
    this.#network = Number(outer.readBigUInt64LE());
  }

  /** Hands in ciphertext from the peer, at most CIPHERTEXT_SIZE bytes after everything before was read. */
  feed(chunk: Uint8Array): void {
    if (this.#freed || chunk.length === 0) return;
    const taken = openssl().BIO_write(this.#network, chunk, chunk.length);
    if (taken !== chunk.length) throw new MeshError('internal', `a TLS session took ${taken} of ${chunk.length} bytes`);
  }

  /** Moves ciphertext for the peer into `into`; bytes moved, 0 when there is none. */
  drain(into: Uint8Array): number {
    return this.#freed ? 0 : Math.max(0, openssl().BIO_read(this.#network, into, into.length));
  }

  /** Goes on with the handshake; true when it is done. Throws the reason when it failed. */
  handshake(): boolean {
    openssl().ERR_clear_error();
    const result = openssl().SSL_do_handshake(this.pointer);
    if (result === 1) return true;
    this.#wanted(result);
    return false;
  }

  /** Bytes of plaintext; 0 when more ciphertext is needed; -1 when the peer ended its direction. */
  read(into: Uint8Array): number {
    if (this.#freed) return 0;
    openssl().ERR_clear_error();
    const count = openssl().SSL_read(this.pointer, into, into.length);
    if (count > 0) return count;
    return this.#wanted(count) === SSL_ERROR.ZERO_RETURN ? -1 : 0;
  }

  /** Bytes encrypted; fewer than given when drain() must make room. The rest must be offered again, with at least the same bytes. */
  write(chunk: Uint8Array): number {
    if (this.#freed) return 0;
    openssl().ERR_clear_error();
    const count = openssl().SSL_write(this.pointer, chunk, chunk.length);
    if (count <= 0) this.#wanted(count);
    return Math.max(0, count);
  }

  /** Tells the peer that this direction has ended. */
  closeNotify(): void {
    if (this.#freed) return;
    openssl().ERR_clear_error();
    openssl().SSL_shutdown(this.pointer);
  }

  /** After the handshake. */
  get alpn(): string {
    const [data, length] = [Buffer.alloc(8), Buffer.alloc(4)];
    openssl().SSL_get0_alpn_selected(this.pointer, data, length);
    const size = length.readUInt32LE();
    return size === 0 ? '' : Buffer.from(copyOf(Number(data.readBigUInt64LE()), size)).toString('latin1');
  }

  /** After the handshake, which has verified the chain. */
  get peer(): PeerCertificate {
    const ssl = openssl();
    const certificate = ssl.SSL_get1_peer_certificate(this.pointer);
    if (certificate === 0) throw new MeshError('tls_failure', 'the peer presented no certificate');
    try {
      const der = Buffer.alloc(ssl.i2d_X509(certificate, null));
      ssl.i2d_X509(certificate, pointerTo(der));
      const { subjectAltName, serialNumber } = new X509Certificate(der);
      return { uris: uriSans(subjectAltName), serial: serialNumber };
    } finally {
      ssl.X509_free(certificate);
    }
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    openssl().SSL_free(this.pointer);
    openssl().BIO_free(this.#network);
  }

  /** What a failed call waits for; throws when it is no wait. */
  #wanted(result: number): number {
    const ssl = openssl();
    const error = ssl.SSL_get_error(this.pointer, result);
    if (error === SSL_ERROR.WANT_READ || error === SSL_ERROR.WANT_WRITE || error === SSL_ERROR.ZERO_RETURN) return error;
    const verdict = ssl.SSL_get_verify_result(this.pointer);
    const reason = takeError('broken TLS stream');
    throw new MeshError('tls_failure', verdict === 0 ? reason : (ssl.X509_verify_cert_error_string(verdict) ?? reason));
  }
}

function configure(context: Pointer, { tls12 = false }: TlsSettings): void {
  const ssl = openssl();
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MIN_PROTO, tls12 ? TLS12 : TLS13, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MAX_PROTO, TLS13, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MODE, SSL_MODE, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.SESS_CACHE_MODE, 0, 0);
  ssl.SSL_CTX_set_options(context, SSL_OPTIONS);
  ssl.SSL_CTX_set_num_tickets(context, 0);
  must(ssl.SSL_CTX_set_groups(context, SSL_CTRL.SET_GROUPS_LIST, 0, GROUPS), 'set the key exchange groups');
  must(ssl.SSL_CTX_set_ciphersuites(context, TLS13_CIPHERS), 'set the TLS 1.3 ciphers');
  if (tls12) must(ssl.SSL_CTX_set_cipher_list(context, TLS12_CIPHERS), 'set the TLS 1.2 ciphers');
  ssl.SSL_CTX_set_verify(context, SSL_VERIFY, null);
}

function loadIdentity(context: Pointer, { chain, key, roots, identity }: WorkloadCertificate): void {
  const ssl = openssl();
  const what = (part: string): string => `${part} of ${identity}`;
  certificates(chain, what('the certificate chain'), (certificate, index) => {
    if (index === 0) must(ssl.SSL_CTX_use_certificate(context, certificate), what('the certificate'));
    else must(ssl.SSL_CTX_ctrl(context, SSL_CTRL.CHAIN_CERT, 1, certificate), what('the certificate chain'));
  });
  const store = ssl.SSL_CTX_get_cert_store(context);
  certificates(roots, what('the roots'), (certificate) => must(ssl.X509_STORE_add_cert(store, certificate), what('the roots')));
  const [der = Buffer.alloc(0)] = pemBlocks(key);
  const privateKey = must(ssl.d2i_AutoPrivateKey(null, pointerTo(der), der.length), what('the private key'));
  try {
    must(ssl.SSL_CTX_use_PrivateKey(context, privateKey), what('the private key'));
    must(ssl.SSL_CTX_check_private_key(context), what('the private key'));
  } finally {
    ssl.EVP_PKEY_free(privateKey);
  }
}

function certificates(pem: string, what: string, use: (certificate: Pointer, index: number) => void): void {
  const blocks = pemBlocks(pem);
  if (blocks.length === 0) throw new MeshError('invalid_config', `${what}: no PEM block in it`);
  for (const [index, der] of blocks.entries()) {
    const certificate = must(openssl().d2i_X509(null, pointerTo(der), der.length), what);
    try {
      use(certificate, index);
    } finally {
      openssl().X509_free(certificate);
    }
  }
}

function pemBlocks(pem: string): Buffer[] {
  return [...pem.matchAll(/-----BEGIN [A-Z ]+-----([A-Za-z0-9+/=\s]+)-----END/gu)].map(([, base64 = '']) =>
    Buffer.from(base64, 'base64'),
  );
}

/** A pointer variable that points to the bytes, for calls that move it on. The caller keeps the bytes referenced. */
function pointerTo(bytes: Uint8Array): Buffer {
  const variable = Buffer.alloc(8);
  variable.writeBigUInt64LE(addressOf(bytes));
  return variable;
}
