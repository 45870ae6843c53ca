// Route tables of a sidecar: one per HTTP port with a virtual host per service, and one per port of its own application.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { RouteSchema } from '#shared/gen/envoy/config/route/v3/route_components_pb.ts';
import { type RouteConfiguration, RouteConfigurationSchema } from '#shared/gen/envoy/config/route/v3/route_pb.ts';
import type { Service } from '#shared/gen/istio/workload/workload_pb.ts';
import { ipFromBytes } from '#shared/address.ts';
import { duration } from './messages.ts';
import { outbound, PASSTHROUGH } from './names.ts';
import { inboundName } from './sidecar-clusters.ts';

/** `namespace`: of the client, where the short names of services hold. */
export function outboundRoutes(
  port: number,
  services: readonly Service[],
  namespace: string,
  clusterDomain: string,
): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: String(port),
    virtualHosts: [
      ...services.map((service) => ({
        name: `${service.hostname}:${port}`,
        domains: domainsOf(service, port, namespace, clusterDomain),
        routes: [toCluster(outbound(port, service.hostname))],
      })),
      { name: 'allow_any', domains: ['*'], routes: [toCluster(PASSTHROUGH)] },
    ],
  });
}

export function inboundRoutes(port: number): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: inboundName(port),
    virtualHosts: [{ name: `inbound|http|${port}`, domains: ['*'], routes: [toCluster(inboundName(port))] }],
  });
}

function toCluster(cluster: string): MessageInitShape<typeof RouteSchema> {
  return {
    name: 'default',
    match: { pathSpecifier: { case: 'prefix', value: '/' } },
    action: { case: 'route', value: { clusterSpecifier: { case: 'cluster', value: cluster }, timeout: duration(0) } },
  };
}

/** Every name that a client may call the service by, with and without the port. */
function domainsOf(
  { name, namespace, hostname, addresses }: Service,
  port: number,
  client: string,
  clusterDomain: string,
): string[] {
  const suffix = `.${clusterDomain}`;
  const names = [hostname, hostname.endsWith(suffix) ? hostname.slice(0, -suffix.length) : hostname, `${name}.${namespace}`];
  if (namespace === client) names.push(name);
  for (const { address } of addresses) {
    const ip = ipFromBytes(address);
    if (ip !== undefined) names.push(ip.includes(':') ? `[${ip}]` : ip);
  }
  return [...new Set(names)].flatMap((each) => [each, `${each}:${port}`]);
}
