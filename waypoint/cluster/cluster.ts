// Clusters and endpoints as the router sees them.
import type { HostPort } from '#shared/address.ts';

/** How an endpoint is reached. */
export type EndpointAddress =
  | { readonly kind: 'tcp'; readonly to: HostPort }
  /** Through the internal listener `listener`; `destination` is where the tunnel leads, or undefined for where the client meant to go. */
  | { readonly kind: 'internal'; readonly listener: string; readonly destination: HostPort | undefined };

export interface Endpoint {
  readonly address: EndpointAddress;
  /** Of the address: what log lines show. */
  readonly label: string;
  readonly weight: number;
  /** The only identity that the far end of the tunnel may have. */
  readonly identity: string | undefined;
  /** `name;namespace;canonical name;revision;cluster` of the workload, for telemetry. */
  readonly workload: string | undefined;
  /** Requests and connections under way; the balancer reads it and whoever uses the endpoint keeps it. */
  active: number;
}

export type LbPolicy = 'round-robin' | 'least-request' | 'random';

export interface ServiceName {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

export interface Cluster {
  readonly name: string;
  /** `original-dst`: the one endpoint is where the client meant to go. */
  readonly discovery: 'eds' | 'static' | 'original-dst';
  readonly edsName: string;
  /** Endpoints of a static cluster. */
  readonly endpoints: readonly Endpoint[];
  readonly lbPolicy: LbPolicy;
  /** Milliseconds. */
  readonly connectTimeout: number;
  /** Backends speak HTTP/2 without negotiation. */
  readonly http2: boolean;
  /** Tunnels: mTLS with our own certificate; HBONE port. */
  readonly tunnel: { readonly port: number } | undefined;
  /** Of the metadata, for telemetry. */
  readonly service: ServiceName | undefined;
}

export function labelOf(address: EndpointAddress): string {
  const where = address.kind === 'tcp' ? address.to : address.destination;
  const text = where ? (where.ip.includes(':') ? `[${where.ip}]:${where.port}` : `${where.ip}:${where.port}`) : '';
  return address.kind === 'tcp' ? text : `envoy://${address.listener}/${text}`;
}
