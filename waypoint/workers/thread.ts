// The inside of a data worker: its own reactor and its own view of the configuration.
import { systemClock } from '#shared/clock.ts';
import { writeLines } from '#shared/telemetry/stdout-sink.ts';
import type { Port } from '#shared/workers/channel.ts';
import { unknownMessage, WorkerSide } from '#shared/workers/thread.ts';
import { LogLines } from '../telemetry/log-lines.ts';
import { applyChanges } from '../xds/changes.ts';
import { ConfigStore } from '../xds/config-store.ts';
import type { Answers, FromWorker, ToWorker, WorkerStart } from './protocol.ts';
import type { Serving } from './serving.ts';
import { createServing } from './serving.ts';

const STDOUT = 1;

export class WorkerThread implements Disposable {
  readonly #side: WorkerSide<ToWorker, FromWorker, Answers>;
  readonly #store = new ConfigStore();
  readonly #serving: Serving;

  /** `exit` ends the thread. */
  constructor(start: WorkerStart, port: Port, exit: () => void) {
    const { config, held, short, index, ledger } = start;
    const side = (this.#side = new WorkerSide(start, port, { exit, serve: (message) => this.#serve(message) }));
    const { channel, certificates, metrics, logging } = side;
    const toMain = (lines: Uint8Array): void => channel.send({ kind: 'access-log', lines: lines.slice() });
    this.#serving = createServing({
      config,
      store: this.#store,
      certificates,
      metrics,
      logging,
      accessLog: new LogLines(systemClock, start.logTo === 'stdout' ? (lines) => writeLines(STDOUT, lines) : toMain),
      places: { held, own: index, short },
      ledger,
      handOn: (to, conn) => channel.send({ kind: 'hand-on', to, conn }),
    });
    applyChanges(this.#store, start.changes);
    channel.send({ kind: 'started', backend: this.#serving.backend });
  }

  /** Closes every connection and writes the last lines. */
  [Symbol.dispose](): void {
    this.#serving[Symbol.dispose]();
    this.#side.logging.flush();
  }

  /** Not async: what comes later must not overtake it. */
  #serve(message: ToWorker): unknown {
    switch (message.kind) {
      case 'config':
        applyChanges(this.#store, message.changes);
        return this.#serving.onConfig();
      case 'listen':
        return this.#serving.listen(message.socket);
      case 'adopt':
        return this.#serving.adopt(message.conn);
      case 'drain-http':
        return this.#serving.drainHttp();
      case 'drain':
        return this.#serving.drain(message.deadline);
      default:
        throw unknownMessage(message);
    }
  }
}
