// A control plane that has one answer: the given Envoy resources, over delta ADS.
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { systemClock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { AdsServer } from '../../controlplane/serve/ads-server.ts';
import { GeneratorRegistry } from '../../controlplane/serve/generator.ts';
import { listen } from '../../controlplane/serve/grpc-server.ts';
import { encodeSets, ENVOY_TYPES } from '../../controlplane/serve/waypoint-generator.ts';
import { ResourceSet } from '../../controlplane/snapshot/resource-set.ts';
import type { Snapshot } from '../../controlplane/snapshot/snapshot.ts';
import type { EnvoyResources } from '../../controlplane/translate/envoy/model.ts';
import { envoyRegistry } from '../../controlplane/translate/envoy/registry.ts';

export interface ControlPlane extends AsyncDisposable {
  readonly port: number;
}

/** On that port of loopback. `log` gets its warnings: NACKs. */
export async function startControlPlane(
  resources: EnvoyResources,
  at: number,
  log: (line: string) => void,
): Promise<ControlPlane> {
  const { sets } = encodeSets(resources);
  const registry = new GeneratorRegistry();
  registry.register(['waypoint'], ENVOY_TYPES, {
    registry: envoyRegistry,
    generate: (_snapshot, _node, typeUrl) => sets.get(typeUrl) ?? ResourceSet.empty,
  });
  const ads = new AdsServer({
    registry,
    snapshot: () => ({ sequence: 1, changed: 0 }) as Snapshot,
    metrics: new Metrics(),
    clock: systemClock,
    log: new Logging({ level: 'warn', sink: { write: log } }).scope('ads'),
  });
  const server = new Server();
  ads.addTo(server);
  const port = await listen(server, '127.0.0.1', at, ServerCredentials.createInsecure());
  return {
    port,
    async [Symbol.asyncDispose]() {
      ads.close();
      server.forceShutdown();
    },
  };
}
