// What a ztunnel knows about the mesh, as plain immutable values. The wire messages (shared/gen) are turned into these once, at the
// edge (decode-address.ts, decode-policy.ts, local-file.ts), so that nothing on the path of a connection parses or defaults anything.
import type { NamespacedHostname, SpiffeId, WorkloadUid } from '#shared/ids.ts';
import type { Cidr } from './cidr.ts';

/** `NETWORK/IP`: an address is only unique within its network. Also the key of the address indexes. */
export type NetworkAddress = `${string}/${string}`;

export function networkAddress(network: string, ip: string): NetworkAddress {
  return `${network}/${ip}`;
}

/** The IP text of a `NETWORK/IP`; a network name may hold slashes, an IP address none. */
export function ipOf(address: NetworkAddress): string {
  return address.slice(address.lastIndexOf('/') + 1);
}

/** A waypoint or gateway, named by address or by host name. `port` is its HBONE port, seen as a service port. */
export type GatewayAddress =
  | { readonly kind: 'address'; readonly network: string; readonly ip: string; readonly port: number }
  | { readonly kind: 'hostname'; readonly host: NamespacedHostname; readonly port: number };

export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job';

/** Service port to target port; target 0 in a service means a named port that each endpoint resolves. */
export type PortMap = ReadonlyMap<number, number>;

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

export interface Workload {
  readonly uid: WorkloadUid;
  readonly name: string;
  readonly namespace: string;
  readonly trustDomain: string;
  readonly serviceAccount: string;
  /** spiffe://trustDomain/ns/namespace/sa/serviceAccount */
  readonly identity: SpiffeId;
  readonly network: string;
  /** Canonical IP texts, the preferred one first. */
  readonly ips: readonly string[];
  /** A DNS name instead of addresses; '' when none. */
  readonly hostname: string;
  /** How peers reach it: through a tunnel to :15008, or in the clear. */
  readonly protocol: 'HBONE' | 'TCP';
  readonly networkMode: 'Standard' | 'HostNetwork';
  readonly waypoint?: GatewayAddress;
  readonly networkGateway?: GatewayAddress;
  readonly node: string;
  readonly workloadName: string;
  readonly workloadType: WorkloadType;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  /** Terminates HBONE by itself (a waypoint). */
  readonly nativeTunnel: boolean;
  readonly applicationTunnel?: { readonly protocol: 'NONE' | 'PROXY'; readonly port?: number };
  readonly services: ReadonlyMap<NamespacedHostname, PortMap>;
  /** Keys of the selector policies that apply to it. */
  readonly authorizationPolicies: readonly string[];
  readonly status: 'Healthy' | 'Unhealthy';
  readonly clusterId: string;
  readonly locality: Locality;
  /** Weight among the endpoints of a service; 0 takes no traffic. */
  readonly capacity: number;
}

export type Scope = 'REGION' | 'ZONE' | 'SUBZONE' | 'NODE' | 'CLUSTER' | 'NETWORK';

export interface LoadBalancing {
  readonly mode: 'Standard' | 'Strict' | 'Failover' | 'Passthrough';
  readonly preferences: readonly Scope[];
  readonly health: 'OnlyHealthy' | 'AllowAll';
}

export interface CidrVip {
  readonly network: string;
  readonly ip: string;
  readonly length: number;
}

export interface Service {
  readonly key: NamespacedHostname;
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly CidrVip[];
  readonly ports: PortMap;
  /** Identities that any endpoint may present, next to its own. */
  readonly subjectAltNames: readonly SpiffeId[];
  readonly waypoint?: GatewayAddress;
  readonly weightedWaypoints: readonly { readonly waypoint: GatewayAddress; readonly weight: number }[];
  readonly loadBalancing?: LoadBalancing;
  readonly ipFamilies?: 'IPv4' | 'IPv6' | 'Dual';
  /** Wins over same-address services of other namespaces. */
  readonly canonical: boolean;
  readonly visibility: 'Public' | 'Namespace';
}

export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly value: string }
  /** Any non-empty text. */
  | { readonly kind: 'presence' }
  /** Of no known type: never hits. */
  | { readonly kind: 'never' };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Every non-empty field must have a hit, and no not* field may have one. */
export interface Match {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

export interface Policy {
  /** The xDS resource name: what a workload's authorizationPolicies list. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly scope: 'Global' | 'Namespace' | 'WorkloadSelector';
  readonly action: 'Allow' | 'Deny';
  readonly dryRun: boolean;
  /** Rules (any), each of clauses (all), each of matches (any). */
  readonly rules: readonly (readonly (readonly Match[])[])[];
}
