// The data plane on the main thread: one thread less, for tests and for hosts with a single core to spare.
import { setTimeout as sleep } from 'node:timers/promises';
import { congestionOption } from '#shared/congestion.ts';
import { listenTcp } from '#shared/os/socket-factory.ts';
import type { DataPlane } from './data-plane.ts';
import { hboneAddress } from './pool.ts';
import type { ServingDeps } from './serving.ts';
import { createServing } from './serving.ts';

export function serveInProcess({ short, ...deps }: Omit<ServingDeps, 'places'> & { readonly short: Int32Array }): DataPlane {
  // The port is fixed, so it is bound before anything else: a taken port must stop the start.
  const socket = listenTcp({ address: hboneAddress(deps.config), ...congestionOption(deps.config.congestion) });
  const serving = createServing({ ...deps, places: { held: new Int32Array(1), own: 0, short } });
  return {
    started: serving.listen(socket),
    backend: serving.backend,
    workers: 0,
    address: socket.address,
    onConfig: () => serving.onConfig(),
    async drain() {
      serving.drainHttp();
      await sleep(deps.config.minimumDrain);
      return await serving.drain(deps.config.drainTimeout);
    },
    profiles: () => undefined,
    // There is no other thread than that of who asks.
    collectGarbage: () => undefined,
    async [Symbol.asyncDispose]() {
      serving[Symbol.dispose]();
    },
  };
}
