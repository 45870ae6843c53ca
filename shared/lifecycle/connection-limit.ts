// How many connections this proxy holds at a time, whether it has the memory for more, and how many handshakes it begins in a second.
// Beyond that new ones are refused and counted, before descriptors, memory or time run out and everything suffers.
import { MeshError } from '../errors.ts';
import type { TokenBucket } from './token-bucket.ts';
import { PORT } from '../ports.ts';
import type { Family, Metrics } from '../telemetry/metrics.ts';

/** What the connection came in by: a listener of the pod, or a tunnel of an accepted connection. */
export type Entrance = 'outbound' | 'plaintext' | 'hbone' | 'socks5' | 'tunnel';

/** What the listeners of a pod are to its connections, by port. */
export const ENTRANCES: ReadonlyMap<number, Entrance> = new Map([
  [PORT.outbound, 'outbound'],
  [PORT.inboundPlaintext, 'plaintext'],
  [PORT.hbone, 'hbone'],
  [PORT.socks5, 'socks5'],
]);

/** Why a connection was refused. */
export type ShedReason = 'connections' | 'descriptors' | 'memory' | 'handshakes';

/** Places taken, one cell for each thread that serves; over shared memory when there are several. */
export interface Places {
  readonly held: Int32Array;
  /** The cell of this thread. */
  readonly own: number;
  /** One cell, 1 while memory is short. */
  readonly short: Int32Array;
}

export interface ConnectionLimits {
  /** Connections and tunnels open at a time, in all threads. */
  readonly max: number;
  /** A token for each handshake that this thread begins; default: as many as come. */
  readonly handshakes?: TokenBucket | undefined;
}

export class ConnectionLimit {
  readonly #limits: ConnectionLimits;
  readonly #shed: Family<'listener' | 'reason'>;
  readonly #places: Places;

  constructor(limits: ConnectionLimits, metrics: Metrics, places: Places) {
    this.#limits = limits;
    this.#places = places;
    this.#shed = metrics.counter('culvert_connections_shed_total', 'Connections refused at a limit', ['listener', 'reason']);
  }

  /** Counts a connection that was refused: here, or before it came here. */
  refused(entrance: Entrance, reason: ShedReason): void {
    this.#shed.add(1, entrance, reason);
  }

  /** Takes a place; throws `limit_reached` when there is none, or no memory or time for it. */
  enter(entrance: Entrance): void {
    const { held, own, short } = this.#places;
    if (Atomics.load(short, 0) !== 0) {
      this.refused(entrance, 'memory');
      throw new MeshError('limit_reached', 'memory is short, no new connections are taken (MAX_MEMORY)');
    }
    const { max, handshakes } = this.#limits;
    if (handshakes && entrance === 'hbone' && !handshakes.take()) {
      this.refused(entrance, 'handshakes');
      throw new MeshError('limit_reached', 'too many handshakes at a time (MAX_HANDSHAKE_RATE)');
    }
    let open = 0;
    for (let i = 0; i < held.length; i++) open += Atomics.load(held, i);
    if (open >= max) {
      this.refused(entrance, 'connections');
      throw new MeshError('limit_reached', `too many connections: ${open} are open (MAX_CONNECTIONS)`);
    }
    Atomics.add(held, own, 1);
  }

  /** The thread with the fewest connections, when it would still not have more than this one with one of them; undefined: none. */
  lighter(): number | undefined {
    const { held, own } = this.#places;
    let least = own;
    for (let i = 0; i < held.length; i++) if (Atomics.load(held, i) < Atomics.load(held, least)) least = i;
    return Atomics.load(held, least) + 1 < Atomics.load(held, own) ? least : undefined;
  }

  /** A place of this thread is another one's from now on. */
  pass(to: number): void {
    Atomics.sub(this.#places.held, this.#places.own, 1);
    Atomics.add(this.#places.held, to, 1);
  }

  /** Gives a place back. */
  leave(): void {
    Atomics.sub(this.#places.held, this.#places.own, 1);
  }
}
