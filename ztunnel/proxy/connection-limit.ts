// How many connections this ztunnel holds at a time, and whether it has the memory for more. Beyond that new ones are refused and counted,
// before descriptors or memory run out and everything suffers.
import { MeshError } from '#shared/errors.ts';
import { PORT } from '#shared/ports.ts';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';

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
export type ShedReason = 'connections' | 'descriptors' | 'memory';

/** Places taken, one cell for each thread that serves; over shared memory when there are several. */
export interface Places {
  readonly held: Int32Array;
  /** The cell of this thread. */
  readonly own: number;
  /** One cell, 1 while memory is short. */
  readonly short: Int32Array;
}

export class ConnectionLimit {
  readonly #max: number;
  readonly #shed: Family<'listener' | 'reason'>;
  readonly #places: Places;

  constructor(max: number, metrics: Metrics, places: Places) {
    this.#max = max;
    this.#places = places;
    this.#shed = metrics.counter('culvert_connections_shed_total', 'Connections refused at a limit', ['listener', 'reason']);
  }

  /** Counts a connection that was refused: here, or before it came here. */
  refused(entrance: Entrance, reason: ShedReason): void {
    this.#shed.add(1, entrance, reason);
  }

  /** Takes a place; throws `limit_reached` when all are taken, or memory is short. */
  enter(entrance: Entrance): void {
    const { held, own, short } = this.#places;
    if (Atomics.load(short, 0) !== 0) {
      this.refused(entrance, 'memory');
      throw new MeshError('limit_reached', 'memory is short, no new connections are taken (MAX_MEMORY)');
    }
    let open = 0;
    for (let i = 0; i < held.length; i++) open += Atomics.load(held, i);
    if (open >= this.#max) {
      this.refused(entrance, 'connections');
      throw new MeshError('limit_reached', `too many connections: ${open} are open (MAX_CONNECTIONS)`);
    }
    Atomics.add(held, own, 1);
  }

  /** Gives a place back. */
  leave(): void {
    Atomics.sub(this.#places.held, this.#places.own, 1);
  }
}
