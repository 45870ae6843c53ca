// Bootstraps for a real Envoy that runs our resources.
import { create } from '@bufbuild/protobuf';
import { type Any, anyPack } from '@bufbuild/protobuf/wkt';
import { type Bootstrap, BootstrapSchema } from '#shared/gen/envoy/config/bootstrap/v3/bootstrap_pb.ts';
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
