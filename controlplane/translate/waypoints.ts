// Which waypoint a service or workload is bound to (facts: control plane 1.5). A binding that does not hold is no waypoint at all:
// the object's own label never falls back to the namespace's.
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import {
  ApplicationTunnel_Protocol,
  ApplicationTunnelSchema,
  GatewayAddressSchema,
} from '#shared/gen/istio/workload/workload_pb.ts';
import type { ApplicationTunnel, GatewayAddress } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Gateway } from '#shared/kube/gateway-api.ts';
import type { Namespace } from '#shared/kube/kinds.ts';
import type { KubeObject } from '#shared/kube/object.ts';
import { matchesSelector } from '#shared/kube/selectors.ts';
import { PORT } from '#shared/ports.ts';
import type { ObjectView } from '../store/store.ts';
import type { MeshSettings } from './settings.ts';

export const USE_WAYPOINT = 'istio.io/use-waypoint';
const USE_WAYPOINT_NAMESPACE = 'istio.io/use-waypoint-namespace';
const CANARY = 'istio.io/use-waypoint-canary';
const CANARY_NAMESPACE = 'istio.io/use-waypoint-canary-namespace';
const CANARY_WEIGHT = 'istio.io/use-waypoint-canary-weight';
const WAYPOINT_FOR = 'istio.io/waypoint-for';
const INBOUND_BINDING = 'ambient.istio.io/waypoint-inbound-binding';
const MANAGED = 'gateway.istio.io/managed';
export const GATEWAY_NAME = 'gateway.networking.k8s.io/gateway-name';

export type WaypointUse = 'service' | 'workload';

export interface WaypointRef {
  readonly namespace: string;
  readonly name: string;
}

/** The waypoint that labels ask for; undefined for none, or for `none`. */
export function waypointRef(object: KubeObject, namespace: Namespace | undefined): WaypointRef | undefined {
  const labelled = object.metadata.labels?.[USE_WAYPOINT] === undefined ? namespace : object;
  const name = labelled?.metadata.labels?.[USE_WAYPOINT];
  if (name === undefined || name === 'none' || name === '') return undefined;
  return { namespace: labelled?.metadata.labels?.[USE_WAYPOINT_NAMESPACE] ?? object.metadata.namespace, name };
}

/** The canary beside it, and its share of 100; services only. */
export function canaryRef(object: KubeObject, namespace: Namespace | undefined): (WaypointRef & { weight: number }) | undefined {
  const labelled = object.metadata.labels?.[CANARY] === undefined ? namespace : object;
  const name = labelled?.metadata.labels?.[CANARY];
  if (name === undefined || name === 'none' || name === '') return undefined;
  const weight = Number(labelled?.metadata.annotations?.[CANARY_WEIGHT] ?? 0);
  if (!Number.isInteger(weight) || weight < 0 || weight > 100) return undefined;
  return { namespace: labelled?.metadata.labels?.[CANARY_NAMESPACE] ?? object.metadata.namespace, name, weight };
}

/** Pods and Services of waypoints and east-west gateways: they never get a waypoint themselves. */
export function isGatewayOwn(object: KubeObject): boolean {
  const managed = object.metadata.labels?.[MANAGED];
  return managed !== undefined && /-(mesh|eastwest)-controller$/u.test(managed);
}

/** The address of `ref` when it exists, is ready, serves that kind of traffic and admits the namespace. */
export function resolveWaypoint(
  ref: WaypointRef | undefined,
  use: WaypointUse,
  from: { namespace: string; labels: Record<string, string> | undefined },
  objects: ObjectView,
  settings: MeshSettings,
): GatewayAddress | undefined {
  const gateway = ref && admittingGateway(ref, use, from, objects);
  return gateway && gatewayAddress(gateway, settings);
}

/** The Gateway of `ref`, ready or not, when it serves that kind of traffic and admits the namespace. */
export function admittingGateway(
  ref: WaypointRef,
  use: WaypointUse,
  from: { namespace: string; labels: Record<string, string> | undefined },
  objects: ObjectView,
): Gateway | undefined {
  const gateway = objects.get('Gateway', ref.namespace, ref.name);
  if (!gateway) return undefined;
  const serves = waypointFor(gateway, objects);
  if (serves !== 'all' && serves !== use) return undefined;
  return admits(gateway, from) ? gateway : undefined;
}

/** `service`, `workload`, `all` or `none`: label of the Gateway, else of its class. */
export function waypointFor(gateway: Gateway, objects: ObjectView): string {
  const own = gateway.metadata.labels?.[WAYPOINT_FOR];
  if (own !== undefined) return own;
  return objects.get('GatewayClass', '', gateway.spec?.gatewayClassName ?? '')?.metadata.labels?.[WAYPOINT_FOR] ?? 'service';
}

/** Undefined until the Gateway has an address; a host name is preferred to an IP address. */
export function gatewayAddress(gateway: Gateway, settings: MeshSettings): GatewayAddress | undefined {
  const addresses = gateway.status?.addresses ?? [];
  const hostname = addresses.find(({ type }) => type === 'Hostname');
  if (hostname) {
    const value = { namespace: gateway.metadata.namespace, hostname: hostname.value };
    return create(GatewayAddressSchema, { destination: { case: 'hostname', value }, hboneMtlsPort: PORT.hbone });
  }
  const address = ipToBytes(addresses.find(({ type }) => type === undefined || type === 'IPAddress')?.value ?? '');
  if (!address) return undefined;
  const value = { network: settings.network, address };
  return create(GatewayAddressSchema, { destination: { case: 'address', value }, hboneMtlsPort: PORT.hbone });
}

/** How a waypoint's own Pods want their traffic, when not as HBONE: `PROXY/15088` on the Gateway or its class. */
export function applicationTunnel(pod: KubeObject, objects: ObjectView): ApplicationTunnel | undefined {
  const name = pod.metadata.labels?.[GATEWAY_NAME];
  const gateway = name === undefined ? undefined : objects.get('Gateway', pod.metadata.namespace, name);
  const binding = gateway && inboundBinding(gateway, objects);
  if (binding?.protocol !== 'PROXY') return undefined;
  return create(ApplicationTunnelSchema, { protocol: ApplicationTunnel_Protocol.PROXY, port: binding.port });
}

function inboundBinding(gateway: Gateway, objects: ObjectView): { protocol: string; port: number } | undefined {
  const gatewayClass = objects.get('GatewayClass', '', gateway.spec?.gatewayClassName ?? '');
  const text = gateway.metadata.annotations?.[INBOUND_BINDING] ?? gatewayClass?.metadata.annotations?.[INBOUND_BINDING];
  const [, protocol, port = '0'] = /^(NONE|PROXY)(?:\/(\d{1,5}))?$/u.exec(text ?? '') ?? [];
  return protocol === undefined ? undefined : { protocol, port: Number(port) };
}

/** allowedRoutes of the listener that the traffic enters by; its own namespace only where it says nothing. */
function admits(gateway: Gateway, from: { namespace: string; labels: Record<string, string> | undefined }): boolean {
  const listeners = gateway.spec?.listeners ?? [];
  const bound = gateway.metadata.annotations?.[INBOUND_BINDING]?.split('/')[1];
  const listener =
    bound === undefined
      ? listeners.find(({ port, protocol }) => port === PORT.hbone && protocol === 'HBONE')
      : listeners.find(({ port }) => port === Number(bound));
  const namespaces = listener?.allowedRoutes?.namespaces;
  const same = gateway.metadata.namespace === from.namespace;
  switch (namespaces?.from ?? 'Same') {
    case 'All':
      return true;
    case 'Selector':
      return matchesSelector(namespaces?.selector, from.labels);
    case 'Same':
      return same;
    default:
      return false;
  }
}
