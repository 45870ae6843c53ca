// TLS contexts over OpenSSL: an identity with the protocols it speaks, from which sessions are made.
import type { WorkloadCertificate } from '../identity/certificate.ts';
import { MeshError } from '../errors.ts';
import { fromPem } from '../identity/pem.ts';
import { addressOf, pointerTo } from '../os/memory.ts';
import { encodeAlpn, registerAlpn, unregisterAlpn } from './alpn.ts';
import { groupsOf, RECORDS_PER_KEY, TLS12_CIPHERS, TLS13_CIPHERS, type TlsSettings } from './settings.ts';
import { must, openssl, SSL_CTRL, SSL_MODE, SSL_OPTIONS, SSL_VERIFY, type Pointer } from './openssl.ts';
import { SslSession } from './openssl-session.ts';
import type { Revocations } from './revocation.ts';

const TLS12 = 0x303;
const TLS13 = 0x304;
const KEY_LABELS = ['PRIVATE KEY', 'EC PRIVATE KEY', 'RSA PRIVATE KEY'];

/** Contexts per certificate object and list of protocols; OpenSSL frees one with its last session. */
export class SslContexts {
  readonly #settings: TlsSettings;
  readonly #cache = new WeakMap<WorkloadCertificate, Map<string, SslContext>>();
  readonly #freed = new FinalizationRegistry<Pointer>((context) => {
    unregisterAlpn(context);
    openssl().SSL_CTX_free(context);
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
  readonly revocations: Revocations | undefined;
  readonly recordsPerKey: number;
  readonly #alpn: Uint8Array;

  constructor(certificate: WorkloadCertificate, alpn: readonly string[], settings: TlsSettings) {
    const ssl = openssl();
    ssl.ERR_clear_error();
    const context = must(ssl.SSL_CTX_new(ssl.TLS_method()), 'create a TLS context');
    this.pointer = context;
    this.revocations = settings.revocations;
    this.recordsPerKey = settings.recordsPerKey ?? RECORDS_PER_KEY;
    this.#alpn = encodeAlpn(alpn);
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

function configure(context: Pointer, settings: TlsSettings): void {
  const { tls12 = false } = settings;
  const ssl = openssl();
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MIN_PROTO, tls12 ? TLS12 : TLS13, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MAX_PROTO, TLS13, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.MODE, SSL_MODE, 0);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL.SESS_CACHE_MODE, 0, 0);
  ssl.SSL_CTX_set_options(context, SSL_OPTIONS);
  ssl.SSL_CTX_set_num_tickets(context, 0);
  must(ssl.SSL_CTX_set_groups(context, SSL_CTRL.SET_GROUPS_LIST, 0, groupsOf(settings)), 'set the key exchange groups');
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
  const [der = Buffer.alloc(1)] = KEY_LABELS.flatMap((label) => fromPem(label, key));
  const privateKey = must(ssl.d2i_AutoPrivateKey(null, pointerTo(addressOf(der)), der.length), what('the private key'));
  try {
    must(ssl.SSL_CTX_use_PrivateKey(context, privateKey), what('the private key'));
    must(ssl.SSL_CTX_check_private_key(context), what('the private key'));
  } finally {
    ssl.EVP_PKEY_free(privateKey);
  }
}

function certificates(pem: string, what: string, use: (certificate: Pointer, index: number) => void): void {
  const blocks = fromPem('CERTIFICATE', pem);
  if (blocks.length === 0) throw new MeshError('invalid_config', `${what}: no certificate in the PEM`);
  for (const [index, der] of blocks.entries()) {
    const certificate = must(openssl().d2i_X509(null, pointerTo(addressOf(der)), der.length), what);
    try {
      use(certificate, index);
    } finally {
      openssl().X509_free(certificate);
    }
  }
}
