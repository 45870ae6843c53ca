// The ztunnel's own pod: tunnels to it, so that peers of the mesh may reach its ports of metrics like those of any other pod. HBONE alone,
// as nothing is redirected here (facts: ztunnel 1).
import { MeshError } from '#shared/errors.ts';
import { PORT } from '#shared/ports.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { ZtunnelConfig } from './config.ts';
import type { PodProxy } from './inpod/pod-manager.ts';
import type { PodIdentity } from './state/workloads.ts';
import type { DataPlane } from './workers/data-plane.ts';

/** What the data plane calls it, and a ztunnel that hands it over. */
export const OWN_POD = 'ztunnel';

/** Undefined: it is not said who it is (POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT), or it serves no node. */
export function ownPod({ self, dedicated, proxy }: ZtunnelConfig): PodIdentity | undefined {
  return !dedicated && proxy && self.name && self.namespace && self.serviceAccount ? self : undefined;
}

/** Serves it, on sockets that were handed over or on new ones. Without it the other pods are served all the same. */
export async function startOwnPod(config: ZtunnelConfig, plane: DataPlane, log: Log): Promise<PodProxy | undefined> {
  const self = ownPod(config);
  if (!self) return undefined;
  try {
    return await plane.start(OWN_POD, self, undefined, [PORT.hbone]);
  } catch (thrown) {
    log.error('this ztunnel takes no tunnels itself', { error: MeshError.from(thrown) });
    return undefined;
  }
}
