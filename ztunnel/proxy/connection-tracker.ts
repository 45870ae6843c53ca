// The live connections of this ztunnel: shown on the admin page, and asked again whenever policies or workloads change, so that a new
// DENY cuts what an old state let in.
import type { HostPort } from '#shared/address.ts';
import type { Numbered } from '#shared/collections/id-table.ts';
import { IdTable } from '#shared/collections/id-table.ts';
import type { MeshError } from '#shared/errors.ts';
import type { Direction } from '../telemetry/connection-result.ts';

export interface TrackedConnection extends Numbered {
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
  #live = new IdTable<TrackedConnection>();

  get size(): number {
    return this.#live.size;
  }

  add(connection: TrackedConnection): void {
    this.#live.add(connection);
  }

  delete(connection: TrackedConnection): void {
    this.#live.delete(connection);
  }

  all(): readonly TrackedConnection[] {
    return this.#live.all();
  }

  /** Asks every connection again and cuts those that may not go on. */
  recheckAll(): void {
    for (const connection of this.#live.all()) {
      // One that was cut may end others.
      const reason = this.#live.has(connection) ? connection.recheck?.() : undefined;
      if (!reason) continue;
      this.#live.delete(connection);
      connection.cut(reason);
    }
  }
}
