// The type URLs that are served, and the order in which one push sends them.

const PREFIX = 'type.googleapis.com/';

export const TYPE = {
  cluster: `${PREFIX}envoy.config.cluster.v3.Cluster`,
  endpoints: `${PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment`,
  listener: `${PREFIX}envoy.config.listener.v3.Listener`,
  route: `${PREFIX}envoy.config.route.v3.RouteConfiguration`,
  secret: `${PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret`,
  address: `${PREFIX}istio.workload.Address`,
  authorization: `${PREFIX}istio.security.Authorization`,
} as const;

/**
 * Clusters and endpoints before what refers to them. Policies before the workloads that list them: a workload must not be
 * reachable before the policy that guards it is there.
 */
const ORDER: readonly string[] = [
  TYPE.cluster,
  TYPE.endpoints,
  TYPE.listener,
  TYPE.route,
  TYPE.secret,
  TYPE.authorization,
  TYPE.address,
];

export function inPushOrder(a: string, b: string): number {
  const rank = (typeUrl: string): number => (ORDER.includes(typeUrl) ? ORDER.indexOf(typeUrl) : ORDER.length);
  return rank(a) - rank(b);
}

/** Types that a proxy asks for by name only: in SotW an empty list of names means none, not all. */
export function isNamedOnly(typeUrl: string): boolean {
  return typeUrl === TYPE.endpoints || typeUrl === TYPE.route || typeUrl === TYPE.secret;
}

/** The short name of a type in metrics and status. */
export function shortType(typeUrl: string): string {
  switch (typeUrl) {
    case TYPE.cluster:
      return 'cds';
    case TYPE.endpoints:
      return 'eds';
    case TYPE.listener:
      return 'lds';
    case TYPE.route:
      return 'rds';
    case TYPE.secret:
      return 'sds';
    case TYPE.address:
      return 'wds';
    case TYPE.authorization:
      return 'wads';
    default:
      return 'other';
  }
}
