// How many connections this ztunnel holds at a time. Beyond that new ones are refused and counted, before descriptors or memory run out
// and everything suffers.
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

/** Places taken, one cell for each thread that serves; over shared memory when there are several. */
export interface Places {
  readonly held: Int32Array;
  /** The cell of this thread. */
  readonly own: number;
}

export class ConnectionLimit {
  readonly #max: number;
  readonly #shed: Family<'listener'>;
  readonly #places: Places;

  constructor(max: number, metrics: Metrics, places: Places = { held: new Int32Array(1), own: 0 }) {
    this.#max = max;
    this.#places = places;
    this.#shed = metrics.counter('culvert_connections_shed_total', 'Connections refused because too many were open', [
      'listener',
    ]);
  }

  /** Counts a connection that was refused before it came here, because no descriptor was left. */
  refused(entrance: Entrance): void {
    this.#shed.add(1, entrance);
  }

  /** Takes a place; throws `limit_reached` when all are taken. */
  enter(entrance: Entrance): void {
    const { held, own } = this.#places;
    let open = 0;
    for (let i = 0; i < held.length; i++) open += Atomics.load(held, i);
    if (open >= this.#max) {
      this.refused(entrance);
      throw new MeshError('limit_reached', `too many connections: ${open} are open (MAX_CONNECTIONS)`);
    }
    Atomics.add(held, own, 1);
  }

  /** Gives a place back. */
  leave(): void {
    Atomics.sub(this.#places.held, this.#places.own, 1);
  }
}
