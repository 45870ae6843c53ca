// Whether the target of a CONNECT may be served here: a peer must not use this pod to reach somebody else.
import { MeshError } from '#shared/errors.ts';
import type { GatewayAddress, Workload } from '../state/model.ts';
import type { MeshView } from '../state/store.ts';
import { gatewayHas } from '../state/gateway.ts';

export interface DestinationRequest {
  readonly workload: Workload;
  /** The pod's own address that the tunnel came in on. */
  readonly localIp: string;
  /** The address that the tunnel asks for. */
  readonly ip: string;
}

/** Throws `destination_mismatch`, unless the address is the pod's own or one that the pod is the waypoint of. */
export function checkDestination(view: MeshView, { workload, localIp, ip }: DestinationRequest): void {
  if (ip === localIp || workload.applicationTunnel) return;
  if (waypointsOf(view, workload, ip).some((gateway) => gatewayHas(view, gateway, workload))) return;
  throw new MeshError('destination_mismatch', `ip mismatch: ${ip} != ${localIp}`);
}

function waypointsOf(view: MeshView, { network, namespace }: Workload, ip: string): GatewayAddress[] {
  const target = view.workloads.byAddress(network, ip);
  const service = view.services.byVip(network, ip, namespace);
  const weighted = service?.weightedWaypoints.map(({ waypoint }) => waypoint) ?? [];
  return [target?.waypoint, service?.waypoint, ...weighted].filter((gateway) => gateway !== undefined);
}
