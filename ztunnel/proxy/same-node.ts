// When this ztunnel serves both ends, there is no wire to protect: the two sockets are joined in this process. The source is who the
// CNI agent says lives in its namespace, and the destination's policies are evaluated as for a tunnel.
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Conn } from '#shared/reactor/api.ts';
import type { Workload } from '../state/model.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import { peerOf } from '../telemetry/peer.ts';
import type { Admission } from './delivery.ts';
import { Delivery } from './delivery.ts';
import { guessService, inboundTarget } from './inbound-target.ts';
import type { Pod, ProxyContext } from './pod.ts';
import type { Route } from './upstream.ts';

type TunnelRoute = Extract<Route, { kind: 'hbone' }>;

/** How long a pod of this node may take to be served once somebody wants it, ms: a ztunnel that starts is told of one pod after the other. */
const SERVED_TIMEOUT = 500;

/**
 * As sameNodePod(), and for a pod that is not served yet as soon as it is: nobody would take a tunnel to it either. A ztunnel of its own pod
 * alone serves no other.
 */
export function servedPod(context: ProxyContext, route: TunnelRoute): Pod | undefined | Promise<Pod | undefined> {
  if (!mayJoin(context, route)) return undefined;
  const { pods, clock, config } = context;
  return pods.find(route.workload) ?? (config.dedicated ? undefined : pods.soon(route.workload, clock, SERVED_TIMEOUT));
}

/** The other end's pod, if the two may be joined here: same node, no waypoint between, and an application that takes plain bytes. */
export function sameNodePod(context: ProxyContext, route: TunnelRoute): Pod | undefined {
  return mayJoin(context, route) ? context.pods.find(route.workload) : undefined;
}

/** All of that but whether this ztunnel serves the pod. */
export function mayJoin({ config, store }: Pick<ProxyContext, 'config' | 'store'>, { workload, via }: TunnelRoute): boolean {
  if (config.sameNode === 'hbone' || via !== 'workload' || workload.applicationTunnel) return false;
  return store.workloads.localPod(workload) === workload;
}

/** The other end, open. */
export interface SameNodeEnd extends Disposable {
  readonly app: Conn;
  /** The line and counts of the destination's side. */
  readonly result: ConnectionResult;
  /** What let it in; ends when the destination's side must stop. */
  readonly admission: Admission;
}

export interface SameNodeRequest {
  readonly pod: Pod;
  readonly route: TunnelRoute;
  readonly source: Workload;
  readonly from: HostPort;
  readonly startedAt: number;
}

/** Rejects as a tunnel would: with a denial, or because the application cannot be reached. The destination's line is then written. */
export async function openSameNode(context: ProxyContext, request: SameNodeRequest): Promise<SameNodeEnd> {
  const { pod, route, source, from, startedAt } = request;
  const { store, telemetry } = context;
  const { workload, authority } = route;
  const { to } = inboundTarget(store, workload, authority, { kind: 'ip', address: authority }, context.config);
  const result = telemetry.open(
    {
      reporter: 'destination',
      from,
      to,
      hboneAddress: undefined,
      source: peerOf(source, source.identity),
      destination: peerOf(workload, workload.identity),
      service: guessService(store, workload, to.port, route.service?.hostname),
      mutualTls: false,
    },
    startedAt,
  );
  const delivery = new Delivery(context, pod);
  using cleanup = new DisposableStack();
  try {
    cleanup.use(pod.drain.hold());
    const request = {
      source: from,
      identity: source.identity,
      to,
      originalDestination: authority,
      protocol: 'TCP' as const,
    };
    const admission = cleanup.use(delivery.admit({ ...request, workload }));
    if (context.revocations) {
      const ends = { source: source.identity, destination: workload.identity };
      cleanup.use(await context.revocations.relays.watch(ends, admission));
    }
    const app = await delivery.connect(to, from, admission);
    const held = cleanup.move();
    return { app, result, admission, [Symbol.dispose]: () => held.dispose() };
  } catch (thrown) {
    const error = MeshError.from(thrown);
    result.end(error);
    throw asOfTunnel(error);
  }
}

/** A peer's ztunnel would have answered that the application cannot be reached. */
function asOfTunnel(error: MeshError): MeshError {
  if (error.code !== 'connect_failed' && error.code !== 'connect_timeout') return error;
  return new MeshError('tunnel_unavailable', error.message, { cause: error });
}
