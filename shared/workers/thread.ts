// The inside of any data worker: how it talks to the main thread, logs, counts and gets certificates. What it serves is its program's.
import { systemClock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { releaseAllMemory, releaseGarbage } from '../lifecycle/start-memory.ts';
import type { LogSink } from '../telemetry/log.ts';
import { Logging } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { thisThread } from '../telemetry/profile-source.ts';
import { SharedNumbers } from '../telemetry/shared-numbers.ts';
import { CertificateMirror } from './certificate-mirror.ts';
import type { Kind, Port } from './channel.ts';
import { Channel } from './channel.ts';
import type { CommonAnswers, CommonStart, FromAnyWorker, ToAnyWorker } from './protocol.ts';

/** Lines that go to the main thread are held back for this long, ms, or until they are this many characters. */
const LOG_DELAY = 5;
const LOG_BATCH = 16 * 1024;

/** `In`, `Out` and `Answers`: what the program adds to the messages of any worker, seen from the main thread's side. */
export class WorkerSide<In extends Kind, Out extends Kind, Answers> {
  readonly channel: Channel<In | ToAnyWorker, Out | FromAnyWorker, Answers & CommonAnswers>;
  readonly logging: Logging;
  readonly metrics: Metrics;
  readonly certificates: CertificateMirror;
  readonly #exit: () => void;
  readonly #serve: (message: In) => unknown;

  /** `exit` ends the thread; `serve` returns the answer of a request, and is not called before the next turn. */
  constructor(start: CommonStart, port: Port, tasks: { exit(): void; serve(message: In): unknown }) {
    this.#exit = () => tasks.exit();
    this.#serve = (message) => tasks.serve(message);
    const channel = (this.channel = new Channel(port, (message) => this.#receive(message)));
    this.logging = new Logging({
      format: start.logFormat,
      level: start.logLevels,
      ...(start.logTo === 'main' ? { sink: relaySink((text) => channel.send({ kind: 'log', text })) } : {}),
    });
    this.metrics = new Metrics({ shared: new SharedNumbers((news) => channel.send({ kind: 'numbers', news })) });
    this.certificates = new CertificateMirror(systemClock, (identity) => channel.ask({ kind: 'need-certificate', identity }));
  }

  /** Not async: what comes later must not overtake it. */
  #receive(message: In | ToAnyWorker): unknown {
    const common = message as ToAnyWorker;
    switch (common.kind) {
      case 'certificate':
        return this.certificates.set(common.identity, common.certificate);
      case 'log-levels':
        return this.logging.filter.set(common.levels);
      case 'cpu-profile':
        return thisThread.cpu(common.seconds, common.frequency);
      case 'heap-snapshot':
        return thisThread.heap();
      case 'ping':
        return undefined;
      case 'collect-garbage':
        return common.all ? releaseAllMemory() : releaseGarbage();
      case 'exit':
        return this.#exit();
      default:
        return this.#serve(message as In);
    }
  }
}

/** For the end of a program's own switch over its messages. */
export function unknownMessage(message: never): MeshError {
  return new MeshError('internal', `a message that no worker knows: ${JSON.stringify(message)}`);
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
