// Service → istio.workload.Service (facts: control plane 1.4).
import { create } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import {
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  LoadBalancingSchema,
  ServiceSchema,
} from '#shared/gen/istio/workload/workload_pb.ts';
import type { GatewayAddress, LoadBalancing, Service as ServiceMessage } from '#shared/gen/istio/workload/workload_pb.ts';
import type { Namespace, Service } from '#shared/kube/kinds.ts';
import type { ObjectView } from '../store/store.ts';
import { servicePort } from './ports.ts';
import { hostnameOf } from './settings.ts';
import type { MeshSettings } from './settings.ts';
import { canaryRef, isGatewayOwn, resolveWaypoint } from './waypoints.ts';
import { boundWaypoint } from './waypoint-binding.ts';

const TRAFFIC_DISTRIBUTION = 'networking.istio.io/traffic-distribution';
const INGRESS_USE_WAYPOINT = 'istio.io/ingress-use-waypoint';

/** Undefined for ExternalName, which is a name in DNS and nothing else. */
export function translateService(service: Service, objects: ObjectView, settings: MeshSettings): ServiceMessage | undefined {
  const { spec, metadata } = service;
  if (spec?.type === 'ExternalName') return undefined;
  const namespace = objects.get('Namespace', '', metadata.namespace);
  const ports = spec?.ports ?? [];
  const loadBalancing = loadBalancingOf(service, namespace);
  return create(ServiceSchema, {
    name: metadata.name,
    namespace: metadata.namespace,
    hostname: hostnameOf(metadata.name, metadata.namespace, settings),
    addresses: virtualAddresses(service).map((address) => ({ network: settings.network, address })),
    ports: ports.map(servicePort),
    ipFamilies: ipFamilies(spec?.ipFamilies),
    canonical: true,
    ingressUseWaypoint:
      (metadata.labels?.[INGRESS_USE_WAYPOINT] ?? namespace?.metadata.labels?.[INGRESS_USE_WAYPOINT]) === 'true',
    ...(loadBalancing && { loadBalancing }),
    ...bindings(service, namespace, objects, settings),
  });
}

/** None for a headless Service, or one whose address is not allocated yet. */
function virtualAddresses({ spec }: Service): Uint8Array[] {
  const texts = spec?.clusterIPs ?? (spec?.clusterIP === undefined ? [] : [spec.clusterIP]);
  return texts.map(ipToBytes).filter((address) => address !== undefined);
}

function ipFamilies(families: readonly string[] | undefined): IPFamilies {
  const v4 = families?.includes('IPv4') ?? false;
  const v6 = families?.includes('IPv6') ?? false;
  if (v4 && v6) return IPFamilies.DUAL;
  if (v4) return IPFamilies.IPV4_ONLY;
  return v6 ? IPFamilies.IPV6_ONLY : IPFamilies.AUTOMATIC;
}

function bindings(
  service: Service,
  namespace: Namespace | undefined,
  objects: ObjectView,
  settings: MeshSettings,
): { waypoint?: GatewayAddress; weightedWaypoints?: { waypoint: GatewayAddress; weight: number }[] } {
  if (isGatewayOwn(service)) return {};
  const from = { namespace: service.metadata.namespace, labels: namespace?.metadata.labels };
  const ref = boundWaypoint(service, objects);
  const waypoint = resolveWaypoint(ref, 'service', from, objects, settings);
  if (!waypoint) return {};
  const canary = canaryRef(service, namespace);
  const canaryAddress = resolveWaypoint(canary, 'service', from, objects, settings);
  if (!canary || !canaryAddress || (canary.name === ref?.name && canary.namespace === ref.namespace)) return { waypoint };
  const weightedWaypoints = [
    { waypoint, weight: 100 - canary.weight },
    { waypoint: canaryAddress, weight: canary.weight },
  ];
  return { waypoint, weightedWaypoints };
}

function loadBalancingOf({ spec, metadata }: Service, namespace: Namespace | undefined): LoadBalancing | undefined {
  const { NETWORK, REGION, ZONE, SUBZONE, NODE } = LoadBalancing_Scope;
  const healthPolicy =
    spec?.publishNotReadyAddresses === true ? LoadBalancing_HealthPolicy.ALLOW_ALL : LoadBalancing_HealthPolicy.ONLY_HEALTHY;
  const preference = (routingPreference: LoadBalancing_Scope[], mode: LoadBalancing_Mode): LoadBalancing =>
    create(LoadBalancingSchema, { routingPreference, mode, healthPolicy });

  if (spec?.internalTrafficPolicy === 'Local') return preference([NODE], LoadBalancing_Mode.STRICT);
  const distribution =
    spec?.trafficDistribution ??
    metadata.annotations?.[TRAFFIC_DISTRIBUTION] ??
    namespace?.metadata.annotations?.[TRAFFIC_DISTRIBUTION];
  switch (distribution) {
    case 'PreferClose':
    case 'PreferSameZone':
      return preference([NETWORK, REGION, ZONE], LoadBalancing_Mode.FAILOVER);
    case 'PreferSameNode':
      return preference([NETWORK, REGION, ZONE, SUBZONE, NODE], LoadBalancing_Mode.FAILOVER);
    default:
      return healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL
        ? preference([], LoadBalancing_Mode.UNSPECIFIED_MODE)
        : undefined;
  }
}
