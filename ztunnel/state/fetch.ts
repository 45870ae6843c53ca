// What a decision needs of the mesh's state, fetched before it is made, where state comes on demand. Each step fetches what the one before
// named; what is held already costs nothing.
import type { HostPort } from '#shared/address.ts';
import type { NamespacedHostname } from '#shared/ids.ts';
import { namespacedHostname } from '#shared/ids.ts';
import type { GatewayAddress, Service, Workload } from './model.ts';
import { networkAddress } from './model.ts';
import type { Demand } from './on-demand.ts';
import type { MeshView } from './store.ts';

/** The destination of a client, the waypoints that it names, and the network gateways on the way. */
export async function fetchDestination(
  view: MeshView,
  demand: Demand,
  { network, to, namespace }: { readonly network: string; readonly to: Pick<HostPort, 'ip'>; readonly namespace: string },
): Promise<void> {
  const address = networkAddress(network, to.ip);
  const held = (): Service | undefined => view.services.byVip(network, to.ip, namespace);
  const known = held();
  if (!view.workloads.byAddress(network, to.ip) && !known?.vips.includes(address)) await demand.fetch(address);
  else if (known && isDeserted(view, known)) await demand.renew(known.key, address);
  const [service, workload] = [held(), view.workloads.byAddress(network, to.ip)];
  const waypoints = [...waypointsOf(service), ...(workload?.waypoint ? [workload.waypoint] : [])];
  const behind = await Promise.all(waypoints.map((gateway) => fetchGateway(view, demand, gateway)));
  const gateways = new Set<GatewayAddress>();
  for (const { key } of [service, ...behind].filter((each) => each !== undefined))
    for (const uid of view.services.endpoints(key).keys()) {
      const { networkGateway, network: own } = view.workloads.get(uid) ?? {};
      if (networkGateway && own !== network) gateways.add(networkGateway);
    }
  await Promise.all(Array.from(gateways, (gateway) => fetchGateway(view, demand, gateway)));
}

/** Nobody is known who could serve it, and somebody would have to. */
function isDeserted(view: MeshView, service: Service): boolean {
  if (service.loadBalancing?.mode === 'Passthrough' || waypointsOf(service).length > 0) return false;
  const uids = Iterator.from(view.services.endpoints(service.key).keys());
  return !uids.some((uid) => view.workloads.get(uid)?.status === 'Healthy');
}

/** Services of a host name, as clients of the namespace mean it. */
export async function fetchHost(demand: Demand, { hostname, namespace, clusterDomain }: HostQuestion): Promise<void> {
  await Promise.all(keysOf({ hostname, namespace, clusterDomain }).map((key) => demand.fetch(key)));
}

interface HostQuestion {
  readonly hostname: string;
  /** The client's. */
  readonly namespace: string;
  readonly clusterDomain: string;
}

/** The own namespace, and the one in the name of a Kubernetes service or of a pod of it. */
function keysOf({ hostname, namespace, clusterDomain }: HostQuestion): NamespacedHostname[] {
  const suffix = `.svc.${clusterDomain}`;
  if (!hostname.endsWith(suffix)) return hostname.includes('.') ? [namespacedHostname(namespace, hostname)] : [];
  const labels = hostname.slice(0, -suffix.length).split('.');
  const [service, of] = labels.slice(-2);
  return service && of ? [namespacedHostname(of, `${service}.${of}${suffix}`)] : [];
}

/** The service behind the name, if it is one. */
async function fetchGateway(view: MeshView, demand: Demand, gateway: GatewayAddress): Promise<Service | undefined> {
  if (gateway.kind === 'hostname') {
    if (!view.services.get(gateway.host)) await demand.fetch(gateway.host);
    return view.services.get(gateway.host);
  }
  const held = (): Service | undefined => view.services.byVip(gateway.network, gateway.ip, '');
  if (!held() && !view.workloads.byAddress(gateway.network, gateway.ip))
    await demand.fetch(networkAddress(gateway.network, gateway.ip));
  return held();
}

function waypointsOf(service: Service | undefined): readonly GatewayAddress[] {
  if (!service) return [];
  const { waypoint, weightedWaypoints } = service;
  return [...(waypoint ? [waypoint] : []), ...weightedWaypoints.map((weighted) => weighted.waypoint)];
}

/** A workload's services, so that connections to it can be told with their names. */
export async function fetchServices(view: MeshView, demand: Demand, workload: Workload): Promise<void> {
  const missing = [...workload.services.keys()].filter((key) => !view.services.get(key));
  await Promise.all(missing.map((key) => demand.fetch(key)));
}
