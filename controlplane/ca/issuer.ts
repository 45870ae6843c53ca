// What the authority signs, and for how long.
import { generateKeyPairSync } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { splitCertificates } from '#shared/identity/pem.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Authority } from './root.ts';
import { issueCertificate } from './x509.ts';

export interface IssuerOptions {
  authority: Authority;
  clock: Clock;
  /** Milliseconds. */
  defaultTtl: number;
  maxTtl: number;
}

export interface IssuedCertificate {
  leaf: X509Certificate;
  /** PEMs: the leaf, each intermediate, the root bundle last, as the CSR service answers. */
  chain: string[];
}

/** Clocks of other machines may be this far behind ours. */
const BACKDATE = 2 * 60_000;
const SERVER_TTL = 24 * 3_600_000;

export class Issuer {
  #options: IssuerOptions;

  constructor(options: IssuerOptions) {
    this.#options = options;
  }

  get authority(): Authority {
    return this.#options.authority;
  }

  /**
   * A workload's certificate.
   * @param publicKey SubjectPublicKeyInfo, DER
   * @param ttl asked-for life, ms; 0 or less is the default, and the maximum and the signer's own end bound it
   */
  issueWorkload(identity: SpiffeId, publicKey: Buffer, ttl: number): IssuedCertificate {
    const { authority, defaultTtl, maxTtl } = this.#options;
    const window = this.#window(Math.min(ttl > 0 ? ttl : defaultTtl, maxTtl));
    const leaf = issueCertificate({ publicKey, organization: '', uris: [identity], ca: false, ...window }, authority);
    return { leaf, chain: [leaf.toString(), ...splitCertificates(authority.intermediates), authority.roots] };
  }

  /** The control plane's own TLS certificate and key, PEM. `names` are DNS names and IP addresses. */
  issueServer(names: readonly string[]): { leaf: X509Certificate; chain: string; key: string } {
    const { authority } = this.#options;
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const leaf = issueCertificate(
      {
        publicKey: publicKey.export({ type: 'spki', format: 'der' }),
        organization: '',
        dnsNames: names.filter((name) => isIP(name) === 0),
        ips: names.filter((name) => isIP(name) !== 0),
        ca: false,
        ...this.#window(SERVER_TTL),
      },
      authority,
    );
    return { leaf, chain: leaf.toString() + authority.intermediates, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
  }

  #window(ttl: number): { notBefore: number; notAfter: number } {
    const { authority, clock } = this.#options;
    const now = clock.now();
    const end = authority.certificate.validToDate.getTime();
    if (end <= now) throw new MeshError('internal', `the CA certificate has expired on ${authority.certificate.validTo}`);
    return { notBefore: now - BACKDATE, notAfter: Math.min(now + ttl, end) };
  }
}
