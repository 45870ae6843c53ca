// Bootstraps for a real Envoy that runs our resources.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Any, anyPack } from '@bufbuild/protobuf/wkt';
import { type Bootstrap, BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';
import { Cluster_DiscoveryType, type ClusterSchema } from '#shared/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ApiConfigSource_ApiType, ApiVersion } from '#shared/gen/envoy/config/core/v3/config_source_pb.ts';
import { http2Options } from '../../controlplane/translate/envoy/clusters.ts';
import { ads, socketAddress } from '../../controlplane/translate/envoy/messages.ts';
import { InternalListenerSchema } from '#shared/gen/envoy/extensions/bootstrap/internal_listener/v3/internal_listener_pb.ts';
import type { EnvoyResources } from '../../controlplane/translate/envoy/model.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { envoySecrets } from './envoy-secrets.ts';

/** Everything static, as far as it can be: for `--mode validate`. */
export function staticBootstrap(resources: EnvoyResources, certificate: WorkloadCertificate): Bootstrap {
  return create(BootstrapSchema, {
    node: { id: 'waypoint~10.0.0.1~waypoint-0.shop~shop.svc.cluster.local', cluster: 'waypoint' },
    staticResources: {
      listeners: [...resources.listeners],
      clusters: [...resources.clusters],
      secrets: envoySecrets(certificate),
    },
    bootstrapExtensions: internalListeners(),
  });
}

export function internalListeners(): { name: string; typedConfig: Any }[] {
  return [
    {
      name: 'envoy.bootstrap.internal_listener',
      typedConfig: anyPack(InternalListenerSchema, create(InternalListenerSchema)),
    },
  ];
}

/** Clusters and listeners over delta ADS from a plaintext control plane on this port. */
export function adsBootstrap(
  port: number,
  certificate: WorkloadCertificate,
  node = 'waypoint~127.0.0.1~waypoint-0.shop~shop.svc.cluster.local',
): Bootstrap {
  const control: MessageInitShape<typeof ClusterSchema> = {
    name: 'xds-grpc',
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.STATIC },
    typedExtensionProtocolOptions: http2Options(),
    loadAssignment: {
      clusterName: 'xds-grpc',
      endpoints: [
        { lbEndpoints: [{ hostIdentifier: { case: 'endpoint', value: { address: socketAddress('127.0.0.1', port) } } }] },
      ],
    },
  };
  return create(BootstrapSchema, {
    node: { id: node, cluster: 'waypoint' },
    staticResources: { clusters: [control], secrets: envoySecrets(certificate) },
    dynamicResources: {
      ldsConfig: ads(),
      cdsConfig: ads(),
      adsConfig: {
        apiType: ApiConfigSource_ApiType.DELTA_GRPC,
        transportApiVersion: ApiVersion.V3,
        grpcServices: [{ targetSpecifier: { case: 'envoyGrpc', value: { clusterName: 'xds-grpc' } } }],
      },
    },
    bootstrapExtensions: internalListeners(),
  });
}
