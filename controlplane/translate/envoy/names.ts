// Names of clusters, filter chains and route tables (facts: control plane 4.2). Chain, cluster and route table of a service port
// share one name; a `|` never occurs in a host name.

export const CONNECT_TERMINATE = 'connect_terminate';
export const MAIN_INTERNAL = 'main_internal';
export const CONNECT_ORIGINATE = 'connect_originate';
/** Straight to the address that the client meant, through a tunnel: for traffic to a workload's own address. */
export const ENCAP = 'encap';
/** Plain TCP to that address. */
export const PASSTHROUGH = 'PassthroughCluster';
export const BLACK_HOLE = 'BlackHoleCluster';
export const DIRECT_HTTP = 'direct-http';
export const DIRECT_TCP = 'direct-tcp';
/** Never defined: a route to it answers 500, as the Gateway API wants for a backend that is not there. */
export const INVALID_BACKEND = 'invalid-backend';

/** Where a listener filter finds, and endpoint metadata carries, the address that a tunnel leads to. */
export const ORIGINAL_DST = 'envoy.filters.listener.original_dst';
export const PEER_PRINCIPAL = 'io.istio.peer_principal';
export const LOCAL_PRINCIPAL = 'io.istio.local_principal';

export function inboundVip(port: number, kind: 'http' | 'tcp', host: string): string {
  return `inbound-vip|${port}|${kind}|${host}`;
}

export function outbound(port: number, host: string): string {
  return `outbound|${port}||${host}`;
}
