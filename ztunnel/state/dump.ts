// The state as JSON for /config_dump, in the shape that istioctl's ztunnel-config reads and LOCAL_XDS_PATH takes
// (facts: ztunnel 13; local-file.ts).
import { ipFromBytes } from '#shared/address.ts';
import type { Cidr } from './cidr.ts';
import { gatewayName } from './gateway.ts';
import type { GatewayAddress, Match, Policy, PortMap, Service, StringMatch, Workload } from './model.ts';
import type { MeshStore } from './store.ts';
import type { Endpoints } from './workloads.ts';

export interface StateDump {
  readonly workloads: readonly object[];
  readonly services: readonly object[];
  readonly policies: readonly object[];
  /** Endpoints of services that did not arrive yet. */
  readonly stagedServices: Readonly<Record<string, unknown>>;
}

export function dumpState(store: MeshStore): StateDump {
  return {
    workloads: Array.from(store.workloads.values(), dumpWorkload),
    services: Array.from(store.services.values(), (service) => dumpService(service, store)),
    policies: Array.from(store.policies.values(), dumpPolicy),
    stagedServices: Object.fromEntries(
      Array.from(store.services.staged(), ([key, endpoints]) => [key, dumpEndpoints(endpoints, store)]),
    ),
  };
}

function dumpWorkload(workload: Workload): object {
  const { ips, waypoint, networkGateway, services, identity: _identity, ...plain } = workload;
  return {
    workloadIps: ips,
    ...(waypoint ? { waypoint: dumpGateway(waypoint) } : {}),
    ...(networkGateway ? { networkGateway: dumpGateway(networkGateway) } : {}),
    ...plain,
    services: Object.fromEntries(Array.from(services, ([key, ports]) => [key, dumpPorts(ports)])),
  };
}

function dumpService(service: Service, store: MeshStore): object {
  const { key, vips, cidrVips, ports, waypoint, weightedWaypoints, loadBalancing, ipFamilies, ...plain } = service;
  return {
    ...plain,
    vips,
    ...(cidrVips.length > 0
      ? { cidrVips: cidrVips.map(({ network, ip, length }) => ({ network, cidr: `${ip}/${length}` })) }
      : {}),
    ports: dumpPorts(ports),
    endpoints: dumpEndpoints(store.services.endpoints(key), store),
    ...(waypoint ? { waypoint: dumpGateway(waypoint) } : {}),
    ...(weightedWaypoints.length > 0
      ? { weightedWaypoints: weightedWaypoints.map(({ waypoint: each, weight }) => ({ destination: dumpGateway(each), weight })) }
      : {}),
    ...(loadBalancing
      ? {
          loadBalancer: {
            mode: loadBalancing.mode,
            routingPreferences: loadBalancing.preferences.map(capital),
            healthPolicy: loadBalancing.health,
          },
        }
      : {}),
    ...(ipFamilies ? { ipFamilies } : {}),
  };
}

function dumpEndpoints(endpoints: Endpoints, store: MeshStore): object {
  const entries = Array.from(endpoints, ([uid, ports]) => [
    uid,
    { workloadUid: uid, port: dumpPorts(ports), status: store.workloads.get(uid)?.status ?? 'Unhealthy' },
  ]);
  return Object.fromEntries(entries) as object;
}

function dumpPolicy({ key: _key, rules, ...plain }: Policy): object {
  return { ...plain, rules: rules.map((rule) => rule.map((clause) => clause.map(dumpMatch))) };
}

/** Only what is set. */
function dumpMatch(match: Match): object {
  const entries = Object.entries(match)
    .filter(([, values]: [string, readonly unknown[]]) => values.length > 0)
    .map(([name, values]: [string, readonly (StringMatch | Cidr | object | number)[]]) => [name, values.map(dumpValue)]);
  return Object.fromEntries(entries) as object;
}

function dumpValue(value: StringMatch | Cidr | object | number): unknown {
  if (typeof value === 'number') return value;
  if ('bytes' in value) return `${ipFromBytes(value.bytes) ?? ''}/${value.length}`;
  if (!('kind' in value)) return value;
  return { [capital(value.kind)]: 'value' in value ? value.value : [] };
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1).toLowerCase();
}

function dumpGateway(gateway: GatewayAddress): object {
  return { destination: gatewayName(gateway), hboneMtlsPort: gateway.port };
}

function dumpPorts(ports: PortMap): Record<string, number> {
  return Object.fromEntries(ports);
}
