// What every TLS context of ours is set to, whichever backend makes it: types alone are imported, so that each loads only its own TLS.
import type { Revocations } from './revocation.ts';

export interface TlsSettings {
  /** Also accept TLS 1.2 (`TLS12_ENABLED`); default 1.3 only. */
  readonly tls12?: boolean;
  /** Agree on keys with X25519MLKEM768 alone; default all of `GROUPS`. */
  readonly postQuantum?: boolean;
  /**
   * Records that this side encrypts before it changes its key; default RECORDS_PER_KEY. The native backend's: Node has no call for it, and
   * OpenSSL does not do it by itself (its issue 23566).
   */
  readonly recordsPerKey?: number;
  /** Peers whose chain it refuses are refused; its lists may change at any time. */
  readonly revocations?: Revocations;
}

/** Below the 2^24.5 full records that AES-GCM may encrypt with one key (RFC 8446, section 5.5): 256 GB, if all of them are full. */
export const RECORDS_PER_KEY = 2 ** 24;
/** The cheaper one first: both are out of reach of an attacker, and SHA-256 makes a shorter handshake of it. */
export const TLS13_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384';
export const TLS12_CIPHERS =
  'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256';
/** The groups that a context offers and takes, for OpenSSL. */
export function groupsOf({ postQuantum = false }: TlsSettings): string {
  return postQuantum ? 'X25519MLKEM768' : GROUPS;
}

/** Istio's groups. X25519 comes first: the cheapest key exchange of OpenSSL's. */
const GROUPS = 'X25519:P-256:P-384:X25519MLKEM768';
