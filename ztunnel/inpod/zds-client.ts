// The session with the CNI agent of the node: dials its socket, says hello, answers each request in order. Whatever goes wrong ends
// only the session; the next one begins with a snapshot, and pods that are served stay served meanwhile (facts: ztunnel 2).
import { Backoff } from '#shared/backoff.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Readiness } from '#shared/lifecycle/readiness.ts';
import type { SeqpacketConn } from '#shared/os/seqpacket.ts';
import { connectSeqpacket } from '#shared/os/seqpacket.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { PodManager } from './pod-manager.ts';
import { ackMessage, helloMessage, parseRequest } from './zds-messages.ts';
import type { ZdsRequest } from './zds-messages.ts';

const FIRST_DELAY = 20;
const MAX_DELAY = 15_000;
/** After a session that lasted this long, ms, the next is begun at once: an agent that always hangs up does not keep us busy. */
const LASTING = 1000;

export interface ZdsClientOptions {
  readonly path: string;
  readonly pods: PodManager;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export class ZdsClient {
  readonly #options: ZdsClientOptions;
  readonly #sessions: Family<'result'>;
  readonly #refusals: Family;
  readonly #stop = new AbortController();
  #blocker: Disposable | undefined;
  #conn: SeqpacketConn | undefined;

  constructor(options: ZdsClientOptions) {
    this.#options = options;
    const { metrics, pods } = options;
    this.#sessions = metrics.counter('culvert_zds_sessions_total', 'Sessions with the CNI agent by how they ended', ['result']);
    this.#refusals = metrics.counter('culvert_zds_refusals_total', 'Requests of the CNI agent that were refused');
    this.#updateReadiness();
    pods.onPending = () => this.#updateReadiness();
  }

  /** Serves sessions until close(). */
  async run(): Promise<void> {
    const { clock, path, log } = this.#options;
    const backoff = new Backoff({ initial: FIRST_DELAY, max: MAX_DELAY });
    while (!this.#stop.signal.aborted) {
      const since = clock.monotonic();
      try {
        await this.#session(() => backoff.reset());
        this.#sessions.add(1, 'ended');
        if (!this.#stop.signal.aborted) log.info('the CNI agent closed the session', { path });
      } catch (thrown) {
        const error = MeshError.from(thrown);
        this.#sessions.add(1, error.code);
        log.warn('session with the CNI agent failed', { path, error });
      }
      if (!this.#stop.signal.aborted && clock.monotonic() - since < LASTING)
        await sleep(clock, backoff.next(), this.#stop.signal);
    }
  }

  /** Ends the session; pods stay as they are. */
  close(): void {
    this.#stop.abort();
    this.#conn?.close();
  }

  async #session(onSnapshot: () => void): Promise<void> {
    const { path, pods } = this.#options;
    using conn = await connectSeqpacket(path);
    this.#conn = conn;
    pods.beginSession();
    this.#updateReadiness();
    try {
      await conn.send(helloMessage());
      for (let message = await conn.receive(); message !== undefined; message = await conn.receive()) {
        const snapshotBefore = pods.snapshotReceived;
        await this.#answer(conn, () => parseRequest(message));
        if (!snapshotBefore && pods.snapshotReceived) onSnapshot();
        this.#updateReadiness();
      }
    } finally {
      this.#conn = undefined;
      this.#block();
    }
  }

  /** Exactly one answer per request. A request that breaks the protocol is refused and ends the session. */
  async #answer(conn: SeqpacketConn, parse: () => ZdsRequest): Promise<void> {
    let fault = 'failure to read message : ';
    try {
      const request = parse();
      fault = 'failure to process message : ';
      await this.#options.pods.handle(request);
    } catch (thrown) {
      const error = MeshError.from(thrown);
      this.#refusals.add(1);
      this.#options.log.warn('request of the CNI agent refused', { error });
      if (error.code !== 'protocol_error') return conn.send(ackMessage(error.message));
      await conn.send(ackMessage(`${fault}${error.message}`));
      throw error;
    }
    await conn.send(ackMessage(''));
  }

  #updateReadiness(): void {
    const { pods } = this.#options;
    if (this.#conn && pods.snapshotReceived && !pods.hasPending) {
      this.#blocker?.[Symbol.dispose]();
      this.#blocker = undefined;
    } else this.#block();
  }

  #block(): void {
    this.#blocker ??= this.#options.readiness.block('workload proxy manager');
  }
}

function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      timer.cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
