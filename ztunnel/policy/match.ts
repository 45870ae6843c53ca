// Whether one connection fits one match of a policy. Pure, and free of allocation after the connection was prepared.
import { ipToBytes } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import { parseSpiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Cidr } from '../state/cidr.ts';
import { contains } from '../state/cidr.ts';
import type { Match, ServiceAccountMatch, StringMatch } from '../state/model.ts';

/** A connection as policies see it; made once by `policyContext` and evaluated any number of times. */
export interface PolicyContext {
  readonly sourceIp: Uint8Array;
  readonly destinationIp: Uint8Array;
  readonly destinationPort: number;
  /** The source identity without `spiffe://`; undefined when the peer proved none. */
  readonly principal: string | undefined;
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
}

const NO_IP = new Uint8Array(0);

export function policyContext({ source, destination, identity }: PolicySubject): PolicyContext {
  const parts = identity === undefined ? undefined : parseSpiffeId(identity);
  return {
    sourceIp: ipToBytes(source.ip) ?? NO_IP,
    destinationIp: ipToBytes(destination.ip) ?? NO_IP,
    destinationPort: destination.port,
    principal: identity?.slice('spiffe://'.length),
    namespace: parts?.namespace ?? '',
    serviceAccount: parts?.serviceAccount,
  };
}

/** Every kind of field that is set must have a hit and no not* field may have one. Compiled rules hold no match that sets nothing. */
export function matches(match: Match, context: PolicyContext): boolean {
  const { principal, namespace } = context;
  const isNamespace = (m: StringMatch): boolean => matchesText(m, namespace);
  const isPrincipal = (m: StringMatch): boolean => principal !== undefined && matchesText(m, principal);
  const isAccount = (m: ServiceAccountMatch): boolean =>
    principal !== undefined && m.namespace === namespace && m.serviceAccount === context.serviceAccount;
  const isSource = (cidr: Cidr): boolean => contains(cidr, context.sourceIp);
  const isDestination = (cidr: Cidr): boolean => contains(cidr, context.destinationIp);
  const isPort = (port: number): boolean => port === context.destinationPort;
  return (
    fits(match.namespaces, match.notNamespaces, isNamespace) &&
    fits(match.principals, match.notPrincipals, isPrincipal) &&
    fits(match.serviceAccounts, match.notServiceAccounts, isAccount) &&
    fits(match.sourceIps, match.notSourceIps, isSource) &&
    fits(match.destinationIps, match.notDestinationIps, isDestination) &&
    fits(match.destinationPorts, match.notDestinationPorts, isPort)
  );
}

function fits<T>(wanted: readonly T[], unwanted: readonly T[], hit: (value: T) => boolean): boolean {
  return (wanted.length === 0 || wanted.some(hit)) && !unwanted.some(hit);
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
