// Authorization resources of the wire to policies. Malformed address blocks are refused, not dropped: dropping one can empty a list, and
// an empty list matches everybody.
import { MeshError } from '#shared/errors.ts';
import type {
  Address,
  Authorization,
  Match as WireMatch,
  StringMatch as WireStringMatch,
} from '#shared/gen/istio/security/authorization_pb.ts';
import { Action, Scope } from '#shared/gen/istio/security/authorization_pb.ts';
import type { Cidr } from './cidr.ts';
import type { Match, Policy, StringMatch } from './model.ts';

const SCOPES: Record<number, Policy['scope']> = {
  [Scope.GLOBAL]: 'Global',
  [Scope.NAMESPACE]: 'Namespace',
  [Scope.WORKLOAD_SELECTOR]: 'WorkloadSelector',
};

/** `key` is the name of the resource. Throws `invalid_config` naming the field. */
export function decodePolicy(key: string, wire: Authorization): Policy {
  const scope = SCOPES[wire.scope];
  if (scope === undefined) throw invalid('scope', `${wire.scope} is unknown`);
  if (wire.action !== Action.ALLOW && wire.action !== Action.DENY) throw invalid('action', `${wire.action} is unknown`);
  return {
    key,
    name: wire.name,
    namespace: wire.namespace,
    scope,
    action: wire.action === Action.DENY ? 'Deny' : 'Allow',
    dryRun: wire.dryRun,
    rules: wire.groups.map((group, g) =>
      group.rules.map((rule, r) => rule.matches.map((match, m) => decodeMatch(match, `groups[${g}].rules[${r}].matches[${m}]`))),
    ),
  };
}

function decodeMatch(wire: WireMatch, field: string): Match {
  return {
    namespaces: strings(wire.namespaces),
    notNamespaces: strings(wire.notNamespaces),
    principals: strings(wire.principals),
    notPrincipals: strings(wire.notPrincipals),
    serviceAccounts: wire.serviceAccounts.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount })),
    notServiceAccounts: wire.notServiceAccounts.map(({ namespace, serviceAccount }) => ({ namespace, serviceAccount })),
    sourceIps: cidrs(wire.sourceIps, `${field}.source_ips`),
    notSourceIps: cidrs(wire.notSourceIps, `${field}.not_source_ips`),
    destinationIps: cidrs(wire.destinationIps, `${field}.destination_ips`),
    notDestinationIps: cidrs(wire.notDestinationIps, `${field}.not_destination_ips`),
    destinationPorts: wire.destinationPorts,
    notDestinationPorts: wire.notDestinationPorts,
  };
}

/** A match of an unset type can never hit; it stays in the list as one, so that the list is not mistaken for an empty one. */
function strings(wire: readonly WireStringMatch[]): StringMatch[] {
  return wire.map(({ matchType }): StringMatch => {
    switch (matchType.case) {
      case 'exact':
      case 'prefix':
      case 'suffix':
        return { kind: matchType.case, value: matchType.value };
      case 'presence':
        return { kind: 'presence' };
      case undefined:
        return { kind: 'never' };
    }
  });
}

function cidrs(wire: readonly Address[], field: string): Cidr[] {
  return wire.map(({ address, length }, index) => {
    if (address.length !== 4 && address.length !== 16)
      throw invalid(`${field}[${index}].address`, `${address.length} bytes are no IP address`);
    if (length > address.length * 8) throw invalid(`${field}[${index}].length`, `${length} is more than ${address.length * 8}`);
    // A copy: the bytes of a decoded message are a view of the whole response.
    return { bytes: Uint8Array.from(address), length };
  });
}

function invalid(field: string, reason: string): MeshError {
  return new MeshError('invalid_config', `${field}: ${reason}`);
}
