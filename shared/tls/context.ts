// TLS settings of a workload certificate, made once per certificate object: a rotated certificate is a new object, so new handshakes
// use it at once and the old settings go with the last reference to the old one.
import { constants } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import { MeshError } from '../errors.ts';
import type { WorkloadCertificate } from '../identity/certificate.ts';
import { nodeTls } from './node-tls.ts';
import { groupsOf, TLS12_CIPHERS, TLS13_CIPHERS, type TlsSettings } from './settings.ts';
import { issueNoTickets } from './tickets.ts';

export class TlsContexts {
  readonly #settings: TlsSettings;
  readonly #cache = new WeakMap<WorkloadCertificate, SecureContext>();

  constructor(settings: TlsSettings = {}) {
    this.#settings = settings;
  }

  get revocations(): TlsSettings['revocations'] {
    return this.#settings.revocations;
  }

  /** Throws `invalid_config` when the certificate cannot be loaded. */
  get(certificate: WorkloadCertificate): SecureContext {
    let context = this.#cache.get(certificate);
    if (!context) {
      context = this.#load(certificate);
      issueNoTickets(context);
      this.#cache.set(certificate, context);
    }
    return context;
  }

  /** Trusts the certificate's own roots only; never resumes a session, so that every connection proves its identity. */
  #load(certificate: WorkloadCertificate): SecureContext {
    try {
      return nodeTls().createSecureContext({
        cert: certificate.chain,
        key: certificate.key,
        ca: certificate.roots,
        minVersion: this.#settings.tls12 ? 'TLSv1.2' : 'TLSv1.3',
        maxVersion: 'TLSv1.3',
        ciphers: this.#settings.tls12 ? `${TLS13_CIPHERS}:${TLS12_CIPHERS}` : TLS13_CIPHERS,
        ecdhCurve: groupsOf(this.#settings),
        secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
      });
    } catch (thrown) {
      const { message } = MeshError.from(thrown);
      throw new MeshError('invalid_config', `the certificate of ${certificate.identity}: ${message}`, { cause: thrown });
    }
  }
}
