// When a certificate is to be renewed.
import type { WorkloadCertificate } from './certificate.ts';

/** Share of a certificate's life by which renewals are spread, so that pods started together do not renew together. */
const JITTER = 0.05;
/** Between two fetches of one identity, whatever the certificates say. */
const MIN_DELAY = 1000;

/**
 * Milliseconds from `now` until renewal: around half of its life. A certificate that is past that when it arrives (an issuer about
 * to expire, a clock that is off) is renewed after half of what is left, so that a strange CA is not asked without pause.
 */
export function renewalDelay({ notBefore, notAfter }: WorkloadCertificate, now: number, random: () => number): number {
  const life = notAfter - notBefore;
  const due = notBefore + life / 2 + life * JITTER * (2 * random() - 1);
  return Math.max(MIN_DELAY, due > now ? due - now : (notAfter - now) / 2);
}
