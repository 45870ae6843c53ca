// The new ztunnel's side of a takeover: meets the one that runs, takes its pods and sockets, tells it to let go, and follows its counts.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { closeFd } from '#shared/os/netns.ts';
import { connectSeqpacket } from '#shared/os/seqpacket.ts';
import type { ListeningSocket } from '#shared/reactor/api.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { GivenSockets } from '../workers/pod-sockets.ts';
import { addCounters } from './counters.ts';
import type { Received } from './link.ts';
import { TakeoverLink } from './link.ts';
import type { Message } from './messages.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import { VERSION } from './messages.ts';
import { RelayCollection } from './relays.ts';

/** For an answer to the greeting, and for letting go, ms. */
const ANSWER_TIMEOUT = 15_000;

/** The receiver owns the descriptors. */
export interface GivenPod {
  readonly uid: string;
  readonly who: PodIdentity;
  readonly netns: number;
  readonly sockets: GivenSockets;
}

export interface MeetOptions {
  readonly path: string;
  readonly build: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Gives up. */
  readonly stopping: AbortSignal | undefined;
}

/** Undefined when none runs here; rejects when the one that runs cannot be taken over. */
export async function meetPredecessor(options: MeetOptions): Promise<Predecessor | undefined> {
  const { path, build, clock, log, stopping } = options;
  let link: TakeoverLink;
  try {
    link = new TakeoverLink(await connectSeqpacket(path));
  } catch (thrown) {
    const error = MeshError.from(thrown);
    if (error.code !== 'connect_failed' && error.code !== 'not_found') throw error;
    log.info('no ztunnel runs here that could be taken over: this one starts as usual', { path });
    return undefined;
  }
  const predecessor = new Predecessor(link, clock, log);
  try {
    stopping?.addEventListener('abort', () => link.close(), { once: true });
    await predecessor.greet(build);
    return predecessor;
  } catch (thrown) {
    link.close();
    throw thrown;
  }
}

export class Predecessor implements Disposable {
  readonly #link: TakeoverLink;
  readonly #clock: Clock;
  readonly #log: Log;
  /** The next message, when it is waited for already. */
  #next: Promise<Received | undefined> | undefined;

  constructor(link: TakeoverLink, clock: Clock, log: Log) {
    this.#link = link;
    this.#clock = clock;
    this.#log = log;
  }

  async greet(build: string): Promise<void> {
    try {
      await this.#link.send({ type: 'hello', version: VERSION, build });
    } catch (thrown) {
      // Whoever refuses hangs up at once; what it said before is there to be read, and rejects with its reason.
      await this.#link.receive();
      throw thrown;
    }
    const timer = this.#clock.after(ANSWER_TIMEOUT, () => this.#link.close());
    const hello = await this.#link.expect('hello');
    timer.cancel();
    if (hello.version !== VERSION)
      throw new MeshError('protocol_error', `takeover: the ztunnel that runs speaks version ${hello.version}, not ${VERSION}`);
    this.#log.info('takes over from the ztunnel that runs', { build: hello.build, pid: this.#link.peer.pid });
  }

  /** Waits for `work` while the predecessor serves. False when it ended meanwhile: then there is nothing to take over. */
  async serves(work: Promise<unknown>): Promise<boolean> {
    this.#next ??= this.#link.receive();
    const next = this.#next.then((received) => {
      if (received) throw new MeshError('protocol_error', `takeover: "${received.message.type}" came unasked`);
      return false;
    });
    return Promise.race([work.then(() => true), next]);
  }

  /**
   * Everything that it serves, with `own` its own pod too; with `relays` those follow later (`follow`). Nothing when it ends before it has told all.
   */
  async pods({ relays, own }: { relays: boolean; own: boolean }): Promise<readonly GivenPod[]> {
    await this.#link.send({ type: 'give', relays, own });
    const pods = new PodCollection();
    try {
      for (let received = await this.#receive(); received; received = await this.#receive()) {
        if (received.message.type === 'all') return pods.complete(received.message.pods);
        pods.take(received.message, received.fd);
      }
    } catch (thrown) {
      pods.close();
      throw thrown;
    }
    this.#log.warn('the ztunnel that ran ended before it had handed over');
    pods.close();
    return [];
  }

  /** From now on this ztunnel serves alone; resolves when the other one has told its counts and let go, or is gone. */
  async release(metrics: Metrics): Promise<void> {
    await this.#link.send({ type: 'serving' });
    const timer = this.#clock.after(ANSWER_TIMEOUT, () => this.#link.close());
    let received = await this.#receive();
    while (received?.message.type === 'counters') {
      addCounters(metrics, received.message.families);
      received = await this.#receive();
    }
    timer.cancel();
    if (received?.message.type !== 'released') this.#log.warn('the ztunnel that ran did not say that it let go');
  }

  /** Adds what the other one counts until it ends, and goes on with its relays. Never rejects. */
  async follow(metrics: Metrics, resume: (relay: HandedRelay) => void): Promise<void> {
    using relays = new RelayCollection();
    try {
      for (let received = await this.#receive(); received; received = await this.#receive()) {
        if (received.message.type === 'done') return this.#log.info('the ztunnel that ran before has drained and ended');
        if (received.message.type === 'counters') addCounters(metrics, received.message.families);
        else {
          const relay = relays.take(received);
          if (relay) resume(relay);
        }
      }
      this.#log.warn('the ztunnel that ran before ended before it had told all of its counts');
    } catch (thrown) {
      this.#log.warn('the ztunnel that ran before cannot be followed', { error: MeshError.from(thrown) });
    } finally {
      this.#link.close();
    }
  }

  [Symbol.dispose](): void {
    this.#link.close();
  }

  #receive(): Promise<Received | undefined> {
    const next = this.#next ?? this.#link.receive();
    this.#next = undefined;
    return next;
  }
}

/** Pods as they come, each followed by its listeners. */
class PodCollection {
  readonly #pods: (GivenPod & { sockets: { reuse: boolean; sets: Map<number, ListeningSocket>[] } })[] = [];

  take(message: Message, fd: number): void {
    const last = this.#pods.at(-1);
    if (message.type === 'pod') {
      const { uid, who, reuse } = message;
      this.#pods.push({ uid, who, netns: fd, sockets: { reuse, sets: [] } });
    } else if (message.type === 'listener' && last && message.set <= last.sockets.sets.length) {
      const { set, port, address, transparent } = message;
      const sockets = last.sockets.sets[set] ?? new Map<number, ListeningSocket>();
      last.sockets.sets[set] = sockets;
      sockets.set(port, { fd, address, transparent });
    } else {
      if (fd >= 0) closeFd(fd);
      throw new MeshError('protocol_error', `takeover: "${message.type}" where a pod or a listener should come`);
    }
  }

  complete(count: number): readonly GivenPod[] {
    if (count !== this.#pods.length)
      throw new MeshError('protocol_error', `takeover: ${this.#pods.length} pods came, ${count} were announced`);
    return this.#pods;
  }

  close(): void {
    for (const { netns, sockets } of this.#pods.splice(0)) {
      closeFd(netns);
      for (const set of sockets.sets) for (const { fd } of set.values()) closeFd(fd);
    }
  }
}
