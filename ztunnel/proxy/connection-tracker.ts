// The live connections of this ztunnel: shown on the admin page, and asked again whenever policies or workloads change, so that a new
// DENY cuts what an old state let in.
import type { HostPort } from '#shared/address.ts';
import type { MeshError } from '#shared/errors.ts';
import type { Direction } from '../telemetry/connection-result.ts';

export interface TrackedConnection {
  /** The pod that it belongs to, by its ZDS uid. */
  readonly pod: string;
  readonly direction: Direction;
  readonly source: HostPort;
  /** What was asked for, and what is dialled. */
  readonly originalDestination: string;
  readonly actualDestination: string;
  readonly protocol: 'TCP' | 'HBONE' | 'DOUBLEHBONE';
  /** Why it may not go on, if so. */
  recheck?(): MeshError | undefined;
  /** Ends it at once; called at most once. */
  cut(reason: MeshError): void;
}

export class ConnectionTracker {
  #live = new Set<TrackedConnection>();

  get size(): number {
    return this.#live.size;
  }

  add(connection: TrackedConnection): void {
    this.#live.add(connection);
  }

  delete(connection: TrackedConnection): void {
    this.#live.delete(connection);
  }

  all(): Iterable<TrackedConnection> {
    return this.#live;
  }

  /** Asks every connection again and cuts those that may not go on. */
  recheckAll(): void {
    for (const connection of this.#live) {
      const reason = connection.recheck?.();
      if (!reason) continue;
      this.#live.delete(connection);
      connection.cut(reason);
    }
  }
}
