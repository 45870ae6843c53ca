// The data plane on the main thread: one thread less, for tests and for hosts with a single core to spare.
import { startPodProxy } from '../proxy/proxy-set.ts';
import type { DataPlane } from './data-plane.ts';
import type { ServingDeps } from './serving.ts';
import { createServing } from './serving.ts';

export function serveInProcess(deps: ServingDeps): DataPlane {
  const serving = createServing(deps);
  return {
    backend: serving.context.reactor.backend,
    workers: 0,
    start: (uid, who, netns) => startPodProxy(serving.context, { uid, who, netns }),
    connections: async () => serving.connections(),
    profiles: () => undefined,
    async [Symbol.asyncDispose]() {
      serving[Symbol.dispose]();
    },
  };
}
