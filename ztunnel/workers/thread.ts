// The inside of a data worker: its own reactor, its own view of the mesh, and the pods that it serves, as the main thread says.
import { systemClock } from '#shared/clock.ts';
import type { Port } from '#shared/workers/channel.ts';
import { unknownMessage, WorkerSide } from '#shared/workers/thread.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import { startPodProxy } from '../proxy/proxy-set.ts';
import { resumeRelay } from '../proxy/resume.ts';
import type { Demand } from '../state/on-demand.ts';
import { MeshStore } from '../state/store.ts';
import type { Answers, FromWorker, ToWorker, WorkerStart } from './protocol.ts';
import type { Serving } from './serving.ts';
import { createServing } from './serving.ts';

export class WorkerThread implements Disposable {
  readonly #side: WorkerSide<ToWorker, FromWorker, Answers>;
  readonly #store: MeshStore;
  readonly #serving: Serving;
  readonly #pods = new Map<string, Promise<PodProxy>>();

  /** `exit` ends the thread. */
  constructor(start: WorkerStart, port: Port, exit: () => void) {
    const { config, maxConnections, held, short, index, ledger } = start;
    const side = (this.#side = new WorkerSide(start, port, { exit, serve: (message) => this.#serve(message) }));
    this.#store = new MeshStore(config.nodeName, { cluster: config.clusterId, seed: start.seed, compacts: false });
    this.#serving = createServing({
      config,
      store: this.#store,
      demand: config.xdsOnDemand ? demandOf(side) : undefined,
      certificates: side.certificates,
      metrics: side.metrics,
      logging: side.logging,
      clock: systemClock,
      maxConnections,
      places: { held, own: index, short },
      ledger,
    });
    this.#store.apply(start.state);
    side.channel.send({ kind: 'started', backend: this.#serving.context.reactor.backend });
  }

  /** Closes every connection and writes the last lines. */
  [Symbol.dispose](): void {
    this.#serving[Symbol.dispose]();
    this.#side.logging.flush();
  }

  /** Not async: what comes later must not overtake it. */
  #serve(message: ToWorker): Promise<Answers[keyof Answers]> | Answers[keyof Answers] {
    switch (message.kind) {
      case 'state':
        this.#store.apply(message.changes);
        return undefined;
      case 'start-pod':
        return this.#startPod(message);
      case 'stop-pod':
        return this.#stopPod(message);
      case 'connections':
        return this.#serving.connections();
      case 'take-relays':
        return this.#serving.context.relays.take();
      case 'resume-relay':
        void resumeRelay(this.#serving.context, message.relay);
        return undefined;
      default:
        throw unknownMessage(message);
    }
  }

  async #startPod({ pod }: ToWorker & { kind: 'start-pod' }): Promise<undefined> {
    const starting = startPodProxy(this.#serving.context, pod);
    this.#pods.set(pod.uid, starting);
    await starting;
  }

  async #stopPod({ uid, deadline }: ToWorker & { kind: 'stop-pod' }): Promise<undefined> {
    const pod = this.#pods.get(uid);
    this.#pods.delete(uid);
    await (await pod)?.stop(deadline);
  }
}

/** The main thread asks the control plane. */
function demandOf({ channel }: WorkerSide<ToWorker, FromWorker, Answers>): Demand {
  return {
    fetch: (name) => channel.ask({ kind: 'need-address', name }),
    renew: (service, address) => channel.ask({ kind: 'renew-service', service, address }),
  };
}
