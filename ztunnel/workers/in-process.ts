// The data plane on the main thread: one thread less, for tests and for hosts with a single core to spare.
import { startPodProxy } from '../proxy/proxy-set.ts';
import { resumeRelay } from '../proxy/resume.ts';
import type { DataPlane } from './data-plane.ts';
import type { ServingDeps } from './serving.ts';
import { createServing } from './serving.ts';
import { SocketKeeper } from './socket-keeper.ts';

export function serveInProcess({ short, ...deps }: Omit<ServingDeps, 'places'> & { readonly short: Int32Array }): DataPlane {
  const serving = createServing({ ...deps, places: { held: new Int32Array(1), own: 0, short } });
  const keeper = new SocketKeeper(deps.config, 1);
  return {
    started: Promise.resolve(),
    backend: serving.context.reactor.backend,
    workers: 0,
    sockets: keeper,
    async start(uid, who, netns, ports) {
      const sockets = keeper.open(uid, netns, ports);
      try {
        const pod = await startPodProxy(serving.context, { uid, who, netns, sockets: sockets.for(0) });
        return {
          stop(deadline) {
            keeper.close(uid, sockets);
            return pod.stop(deadline);
          },
        };
      } catch (thrown) {
        keeper.close(uid, sockets);
        throw thrown;
      }
    },
    connections: async () => serving.connections(),
    takeRelays: async () => serving.context.relays.take(),
    resumeRelay: (relay) => void resumeRelay(serving.context, relay),
    profiles: () => undefined,
    // There is no other thread than that of who asks.
    collectGarbage: () => undefined,
    async [Symbol.asyncDispose]() {
      serving[Symbol.dispose]();
      keeper[Symbol.dispose]();
    },
  };
}
