// Whether one connection fits one match of a policy. Pure, and free of allocation after the connection was prepared.
import { ipToBytes } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import { parseSpiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Cidr } from '../state/cidr.ts';
import { contains } from '../state/cidr.ts';
import type { Match, ServiceAccountMatch, StringMatch } from '../state/model.ts';
import type { Rule } from './compile.ts';

/** A connection as policies see it; made once by `policyContext` and evaluated any number of times. */
export interface PolicyContext {
  readonly sourceIp: Uint8Array;
  readonly destinationIp: Uint8Array;
  readonly destinationPort: number;
  /** The source identity without `spiffe://`; undefined when the peer proved none. */
  readonly principal: string | undefined;
  /** The same identity in trust domains that mean the same mesh; undefined when there are none. */
  readonly alsoKnownAs: readonly string[] | undefined;
  /** Of the source identity; '' without one. */
  readonly namespace: string;
  readonly serviceAccount: string | undefined;
}

export interface PolicySubject {
  /** Where the TCP connection (of the tunnel, for HBONE) came from. */
  source: HostPort;
  /** The pod's own address and the port that the application is reached on. */
  destination: HostPort;
  identity: SpiffeId | undefined;
  /** Of the identity, in all trust domains that mean this mesh; default itself alone. */
  spellings?: readonly SpiffeId[] | undefined;
}

const NO_IP = new Uint8Array(0);
const SCHEME = 'spiffe://'.length;

export function policyContext({ source, destination, identity, spellings = [] }: PolicySubject): PolicyContext {
  const parts = identity === undefined ? undefined : parseSpiffeId(identity);
  return {
    sourceIp: ipToBytes(source.ip) ?? NO_IP,
    destinationIp: ipToBytes(destination.ip) ?? NO_IP,
    destinationPort: destination.port,
    principal: identity?.slice(SCHEME),
    alsoKnownAs:
      spellings.length > 1 ? spellings.filter((other) => other !== identity).map((other) => other.slice(SCHEME)) : undefined,
    namespace: parts?.namespace ?? '',
    serviceAccount: parts?.serviceAccount,
  };
}

/** Whether every clause has a match that hits; true without clauses. The rule is a compiled one. */
export function ruleMatches(rule: Rule, context: PolicyContext): boolean {
  for (const clause of rule) if (!clause.some((match) => matches(match, context))) return false;
  return true;
}

/** Every kind of field that is set must have a hit and no not* field may have one. Compiled rules hold no match that sets nothing. */
export function matches(match: Match, context: PolicyContext): boolean {
  return (
    fits(match.principals, match.notPrincipals, isPrincipal, context) &&
    fits(match.namespaces, match.notNamespaces, isNamespace, context) &&
    fits(match.serviceAccounts, match.notServiceAccounts, isAccount, context) &&
    fits(match.sourceIps, match.notSourceIps, isSource, context) &&
    fits(match.destinationIps, match.notDestinationIps, isDestination, context) &&
    fits(match.destinationPorts, match.notDestinationPorts, isPort, context)
  );
}

type Hit<T> = (value: T, context: PolicyContext) => boolean;

const isNamespace: Hit<StringMatch> = (match, { namespace }) => matchesText(match, namespace);
const isPrincipal: Hit<StringMatch> = (match, { principal, alsoKnownAs }) =>
  principal !== undefined &&
  (matchesText(match, principal) || (alsoKnownAs?.some((other) => matchesText(match, other)) ?? false));
const isAccount: Hit<ServiceAccountMatch> = (match, { principal, namespace, serviceAccount }) =>
  principal !== undefined && match.namespace === namespace && match.serviceAccount === serviceAccount;
const isSource: Hit<Cidr> = (cidr, { sourceIp }) => contains(cidr, sourceIp);
const isDestination: Hit<Cidr> = (cidr, { destinationIp }) => contains(cidr, destinationIp);
const isPort: Hit<number> = (port, { destinationPort }) => port === destinationPort;

function fits<T>(wanted: readonly T[], unwanted: readonly T[], hit: Hit<T>, context: PolicyContext): boolean {
  return (wanted.length === 0 || hits(wanted, hit, context)) && (unwanted.length === 0 || !hits(unwanted, hit, context));
}

function hits<T>(values: readonly T[], hit: Hit<T>, context: PolicyContext): boolean {
  for (const value of values) if (hit(value, context)) return true;
  return false;
}

function matchesText(match: StringMatch, text: string): boolean {
  switch (match.kind) {
    case 'exact':
      return text === match.value;
    case 'prefix':
      return text.startsWith(match.value);
    case 'suffix':
      return text.endsWith(match.value);
    case 'presence':
      return text !== '';
    case 'never':
      return false;
  }
}
