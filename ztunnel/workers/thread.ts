// The inside of a data worker: its own reactor, its own view of the mesh, and the pods that it serves, as the main thread says.
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { releaseAllMemory, releaseGarbage } from '#shared/lifecycle/start-memory.ts';
import type { LogSink } from '#shared/telemetry/log.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { takeReport } from '#shared/telemetry/metric-report.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { thisThread } from '#shared/telemetry/profile-source.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import { startPodProxy } from '../proxy/proxy-set.ts';
import { resumeRelay } from '../proxy/resume.ts';
import { MeshStore } from '../state/store.ts';
import { CertificateMirror } from './certificate-mirror.ts';
import type { Port } from './channel.ts';
import { Channel } from './channel.ts';
import type { Answers, FromWorker, ToWorker, WorkerStart } from './protocol.ts';
import type { Serving } from './serving.ts';
import { createServing } from './serving.ts';

/** Lines that go to the main thread are held back for this long, ms, or until they are this many characters. */
const LOG_DELAY = 5;
const LOG_BATCH = 16 * 1024;

export class WorkerThread implements Disposable {
  readonly #channel: Channel<ToWorker, FromWorker>;
  readonly #logging: Logging;
  readonly #metrics = new Metrics();
  readonly #store: MeshStore;
  readonly #certificates: CertificateMirror;
  readonly #serving: Serving;
  readonly #pods = new Map<string, Promise<PodProxy>>();
  readonly #exit: () => void;

  /** `exit` ends the thread. */
  constructor(start: WorkerStart, port: Port, exit: () => void) {
    const { config, maxConnections, held, short, index, ledger } = start;
    this.#exit = exit;
    this.#channel = new Channel(port, (message) => this.#serve(message));
    this.#logging = new Logging({
      format: start.logFormat,
      level: start.logLevels,
      ...(start.logTo === 'main' ? { sink: relaySink((text) => this.#channel.send({ kind: 'log', text })) } : {}),
    });
    this.#store = new MeshStore(config.nodeName, { cluster: config.clusterId, seed: start.seed, compacts: false });
    this.#certificates = new CertificateMirror(systemClock, (identity) =>
      this.#channel.ask({ kind: 'need-certificate', identity }),
    );
    this.#serving = createServing({
      config,
      store: this.#store,
      demand: config.xdsOnDemand ? { fetch: (name) => this.#channel.ask({ kind: 'need-address', name }) } : undefined,
      certificates: this.#certificates,
      metrics: this.#metrics,
      logging: this.#logging,
      clock: systemClock,
      maxConnections,
      places: { held, own: index, short },
      ledger,
    });
    this.#store.apply(start.state);
    this.#channel.send({ kind: 'started', backend: this.#serving.context.reactor.backend });
  }

  /** Closes every connection and writes the last lines. */
  [Symbol.dispose](): void {
    this.#channel.send({ kind: 'metrics', report: takeReport(this.#metrics) });
    this.#serving[Symbol.dispose]();
    this.#logging.flush();
  }

  /** Not async: what comes later must not overtake it. */
  #serve(message: ToWorker): Promise<Answers[keyof Answers]> | Answers[keyof Answers] {
    switch (message.kind) {
      case 'state':
        this.#store.apply(message.changes);
        return undefined;
      case 'certificate':
        this.#certificates.set(message.identity, message.certificate);
        return undefined;
      case 'log-levels':
        this.#logging.filter.set(message.levels);
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
      case 'metrics':
        return takeReport(this.#metrics);
      case 'cpu-profile':
        return thisThread.cpu(message.seconds, message.frequency);
      case 'heap-snapshot':
        return thisThread.heap();
      case 'collect-garbage':
        return (message.all ? releaseAllMemory() : releaseGarbage()).then(() => undefined);
      case 'exit':
        this.#exit();
        return undefined;
      default:
        throw new MeshError('internal', `a message that no worker knows: ${JSON.stringify(message satisfies never)}`);
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

function relaySink(send: (text: string) => void): LogSink {
  let held = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (held !== '') send(held);
    held = '';
  };
  return {
    write(line) {
      held += line;
      if (held.length >= LOG_BATCH) flush();
      else timer ??= setTimeout(flush, LOG_DELAY);
    },
    flush,
  };
}
