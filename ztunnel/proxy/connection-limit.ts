// How many connections this ztunnel holds at a time. Beyond that new ones are refused and counted, before descriptors or memory run out
// and everything suffers.
import { MeshError } from '#shared/errors.ts';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';

/** What the connection came in by: a listener of the pod, or a tunnel of an accepted connection. */
export type Entrance = 'outbound' | 'plaintext' | 'hbone' | 'tunnel';

export class ConnectionLimit {
  readonly #max: number;
  readonly #shed: Family<'listener'>;
  #held = 0;

  constructor(max: number, metrics: Metrics) {
    this.#max = max;
    this.#shed = metrics.counter('culvert_connections_shed_total', 'Connections refused because too many were open', [
      'listener',
    ]);
  }

  /** A place until the token is disposed; throws `limit_reached` when all are taken. */
  take(entrance: Entrance): Disposable {
    if (this.#held >= this.#max) {
      this.#shed.add(1, entrance);
      throw new MeshError('limit_reached', `too many connections: ${this.#held} are open (MAX_CONNECTIONS)`);
    }
    this.#held += 1;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#held -= 1;
        held = false;
      },
    };
  }
}
