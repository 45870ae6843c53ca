// The running ztunnel's side of a takeover: waits at takeover.sock for its successor, gives it what it serves, and lets go. Until the
// successor says that it serves, whatever goes wrong leaves this ztunnel as it was.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { closeFd, currentNetns } from '#shared/os/netns.ts';
import type { SeqpacketConn, SeqpacketListener } from '#shared/os/seqpacket.ts';
import { listenSeqpacket } from '#shared/os/seqpacket.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { PodManager } from '../inpod/pod-manager.ts';
import { OWN_POD } from '../own-pod.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { SocketKeeper } from '../workers/socket-keeper.ts';
import { pieces, takeCounters } from './counters.ts';
import { TakeoverLink } from './link.ts';
import type { DataPlane } from '../workers/data-plane.ts';
import { VERSION } from './messages.ts';
import { sendRelay } from './relays.ts';

/** For the greeting, ms. */
const HELLO_TIMEOUT = 10_000;
/** From the first pod until the successor serves, ms; the CNI agent waits meanwhile. */
const GIVE_TIMEOUT = 30_000;
/** Counters are told so often, ms. */
const COUNT_INTERVAL = 1000;
/** For the last ones, ms. */
const FINISH_TIMEOUT = 2000;

export interface GiverDeps {
  readonly path: string;
  readonly build: string;
  readonly pods: Pick<PodManager, 'hold' | 'served'>;
  /** Its own pod, if it has one. */
  readonly own: PodIdentity | undefined;
  readonly sockets: Pick<SocketKeeper, 'setsOf' | 'reuse'>;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  /** What holds relays that a successor can go on with. */
  readonly plane: Pick<DataPlane, 'takeRelays' | 'resumeRelay'>;
  /** Stops accepting and frees the ports; what is open drains, and the process ends. Called once, while no pod comes or goes. */
  readonly letGo: () => Promise<void>;
}

export class TakeoverGiver implements AsyncDisposable {
  readonly #deps: GiverDeps;
  #listener: SeqpacketListener | undefined;
  /** One at a time. */
  #link: TakeoverLink | undefined;
  #released = false;
  /** The successor goes on with relays. */
  #relays = false;
  #closed = Promise.withResolvers<void>();
  #telling: Promise<void> = Promise.resolve();

  constructor(deps: GiverDeps) {
    this.#deps = deps;
  }

  /** Without its socket a ztunnel serves all the same; it can only not be taken over, which is told as a warning. */
  listen(): void {
    const { path, log } = this.#deps;
    try {
      this.#listener = listenSeqpacket(path, (conn) => void this.#serve(conn), { takeName: true });
    } catch (thrown) {
      log.warn('this ztunnel cannot be taken over: its socket cannot be made', { path, error: MeshError.from(thrown) });
    }
  }

  /** Tells the successor the last counts. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.close();
    const link = this.#link;
    if (!link) return;
    if (this.#released) {
      const timer = this.#deps.clock.after(FINISH_TIMEOUT, () => link.close());
      this.#closed.resolve();
      await this.#telling;
      timer.cancel();
    }
    link.close();
  }

  async #serve(conn: SeqpacketConn): Promise<void> {
    const { log } = this.#deps;
    using link = new TakeoverLink(conn);
    const refusal = this.#refusalOf(link);
    if (refusal) return await refuse(link, refusal);
    this.#link = link;
    try {
      await this.#handOver(link);
    } catch (thrown) {
      const error = MeshError.from(thrown);
      log.warn('a takeover failed: this ztunnel goes on', { error });
      this.#link = undefined;
      return await refuse(link, error.message);
    }
    this.#telling = this.#handOn(link);
    await this.#telling;
    return undefined;
  }

  #refusalOf(link: TakeoverLink): string | undefined {
    const { uid } = link.peer;
    if (uid !== 0 && uid !== process.geteuid?.()) return `user ${uid} may not take over`;
    if (this.#link) return 'another takeover is under way';
    return undefined;
  }

  async #handOver(link: TakeoverLink): Promise<void> {
    const { build, pods, log, letGo } = this.#deps;
    const hello = await this.#within(HELLO_TIMEOUT, link, () => link.expect('hello'));
    if (hello.version !== VERSION)
      throw new MeshError(
        'protocol_error',
        `it speaks version ${hello.version} of the takeover, this one (build ${build}) version ${VERSION}; start it without --takeover`,
      );
    await link.send({ type: 'hello', version: VERSION, build });
    log.info('a takeover begins', { build: hello.build, pid: link.peer.pid });
    // The successor may wait long for its control plane before it asks.
    const { relays, own } = await link.expect('give');
    this.#relays = relays;
    using _held = await pods.hold();
    const given = await this.#within(GIVE_TIMEOUT, link, async () => {
      const count = await this.#give(link, own === true);
      await link.expect('serving');
      return count;
    });
    this.#released = true;
    log.info('another ztunnel has taken over: what is open drains', { build: hello.build, pods: given });
    try {
      await letGo();
    } catch (thrown) {
      // The successor serves: there is no way back.
      log.error('not everything could be let go of; it goes with the end of this process', { error: MeshError.from(thrown) });
    }
  }

  async #give(link: TakeoverLink, withOwn: boolean): Promise<number> {
    const { pods, own, sockets } = this.#deps;
    using cleanup = new DisposableStack();
    const served = pods.served();
    if (withOwn && own && sockets.setsOf(OWN_POD).length > 0)
      served.push({ uid: OWN_POD, who: own, netns: cleanup.adopt(currentNetns(), closeFd) });
    for (const { uid, who, netns } of served) {
      await link.send({ type: 'pod', uid, who, reuse: sockets.reuse }, netns);
      for (const [set, listeners] of sockets.setsOf(uid).entries())
        for (const [port, { fd, address, transparent }] of listeners)
          await link.send({ type: 'listener', set, port, address, transparent }, fd);
    }
    await link.send({ type: 'all', pods: served.length });
    return served.length;
  }

  /** Relays and counts, until this ztunnel has drained. A successor that has gone needs them no more. */
  async #handOn(link: TakeoverLink): Promise<void> {
    const { metrics, clock, log } = this.#deps;
    const tell = async (): Promise<void> => {
      for (const family of pieces(takeCounters(metrics))) await link.send({ type: 'counters', families: [family] });
    };
    let over = false;
    void this.#closed.promise.then(() => (over = true));
    try {
      // Before the successor is scraped, or its counters would go back for a moment.
      await tell();
      await link.send({ type: 'released' });
      while (!over) {
        // Those that were still connecting the last time are relays by now.
        await this.#giveRelays(link);
        await tell();
        const pause = Promise.withResolvers<void>();
        const timer = clock.after(COUNT_INTERVAL, pause.resolve);
        await Promise.race([pause.promise, this.#closed.promise]);
        timer.cancel();
      }
      await tell();
      await link.send({ type: 'done' });
    } catch (thrown) {
      log.warn('the successor does not hear the last counts', { error: MeshError.from(thrown) });
    }
  }

  /** Rejects when the successor has gone: what it did not get goes on here, until the drain ends it. */
  async #giveRelays(link: TakeoverLink): Promise<void> {
    const { plane, log } = this.#deps;
    if (!this.#relays) return;
    const relays = [...(await plane.takeRelays())];
    if (relays.length > 0) log.info('relays go on in the other ztunnel', { relays: relays.length });
    try {
      for (let relay = relays[0]; relay; relay = relays[0]) {
        await sendRelay(link, relay);
        relays.shift();
      }
    } finally {
      for (const relay of relays) plane.resumeRelay(relay);
    }
  }

  /** Hangs up when it takes longer, which rejects what waits. */
  async #within<T>(ms: number, link: TakeoverLink, work: () => Promise<T>): Promise<T> {
    const timer = this.#deps.clock.after(ms, () => link.close());
    try {
      return await work();
    } finally {
      timer.cancel();
    }
  }
}

/** Whoever has hung up hears nothing. */
async function refuse(link: TakeoverLink, reason: string): Promise<void> {
  await link.send({ type: 'refused', reason }).catch(() => undefined);
}
