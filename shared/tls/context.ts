// TLS settings of a workload certificate, made once per certificate object: a rotated certificate is a new object, so new handshakes
// use it at once and the old settings go with the last reference to the old one.
import { constants } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { WorkloadCertificate } from '../identity/certificate.ts';

export interface TlsSettings {
  /** Also accept TLS 1.2 (`TLS12_ENABLED`); default 1.3 only. */
  readonly tls12?: boolean;
}

/** The cheaper one first: both are out of reach of an attacker, and SHA-256 makes a shorter handshake of it. */
export const TLS13_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384';
export const TLS12_CIPHERS =
  'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256';
/** Istio's groups. P-256 comes first: OpenSSL has it in assembly, and the certificates are of the same curve. */
export const GROUPS = 'P-256:X25519:P-384:X25519MLKEM768';

export class TlsContexts {
  readonly #settings: TlsSettings;
  readonly #cache = new WeakMap<WorkloadCertificate, SecureContext>();

  constructor(settings: TlsSettings = {}) {
    this.#settings = settings;
  }

  /** Trusts the certificate's own roots only; never resumes a session, so that every connection proves its identity. */
  get(certificate: WorkloadCertificate): SecureContext {
    let context = this.#cache.get(certificate);
    if (!context) {
      context = createSecureContext({
        cert: certificate.chain,
        key: certificate.key,
        ca: certificate.roots,
        minVersion: this.#settings.tls12 ? 'TLSv1.2' : 'TLSv1.3',
        maxVersion: 'TLSv1.3',
        ciphers: this.#settings.tls12 ? `${TLS13_CIPHERS}:${TLS12_CIPHERS}` : TLS13_CIPHERS,
        ecdhCurve: GROUPS,
        secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
      });
      this.#cache.set(certificate, context);
    }
    return context;
  }
}
