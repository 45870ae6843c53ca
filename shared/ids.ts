// Names that must not be mixed up, as branded strings: only a parse function makes one.
import { MeshError } from './errors.ts';

declare const brand: unique symbol;
type Branded<B extends string> = string & { readonly [brand]: B };

/** `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT` */
export type SpiffeId = Branded<'SpiffeId'>;
export type TrustDomain = Branded<'TrustDomain'>;
/** `CLUSTER//Pod/NAMESPACE/NAME` and its kin (facts: control plane 1.2). */
export type WorkloadUid = Branded<'WorkloadUid'>;
/** `NAMESPACE/HOSTNAME` */
export type NamespacedHostname = Branded<'NamespacedHostname'>;

export interface Identity {
  trustDomain: string;
  namespace: string;
  serviceAccount: string;
}

const SPIFFE = /^spiffe:\/\/([a-zA-Z0-9._-]{1,255})\/ns\/([^/]+)\/sa\/([^/]+)$/u;

export function isTrustDomain(text: string): text is TrustDomain {
  return /^[a-z0-9._-]{1,255}$/u.test(text);
}

export function trustDomain(text: string): TrustDomain {
  if (!isTrustDomain(text)) throw new MeshError('invalid_config', `"${text}" is not a trust domain`);
  return text;
}

export function spiffeId(identity: Identity): SpiffeId {
  return `spiffe://${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}` as SpiffeId;
}

/** The parts of a SPIFFE ID of the mesh's form; undefined when the text is not one. */
export function parseSpiffeId(text: string): Identity | undefined {
  const match = SPIFFE.exec(text);
  if (!match) return undefined;
  const [, domain = '', namespace = '', serviceAccount = ''] = match;
  return { trustDomain: domain, namespace, serviceAccount };
}

export function isSpiffeId(text: string): text is SpiffeId {
  return SPIFFE.test(text);
}

export function workloadUid(text: string): WorkloadUid {
  return text as WorkloadUid;
}

export function namespacedHostname(namespace: string, hostname: string): NamespacedHostname {
  return `${namespace}/${hostname}` as NamespacedHostname;
}
