// Relays of two plain sockets, which another ztunnel can go on with: what is told of each, and how one is let go of. Tunnels are not among
// them: the state of TLS and HTTP/2 stays where it is.
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Relay } from '#shared/hbone/relay.ts';
import type { SpiffeId, WorkloadUid } from '#shared/ids.ts';
import type { DetachedConn } from '#shared/reactor/api.ts';
import type { ConnectionResult, OpenResult } from '../telemetry/connection-result.ts';
import type { Entrance } from './connection-limit.ts';
import type { TrackedConnection } from './connection-tracker.ts';

/** What let an inbound connection in: asked again where it goes on, and whenever policies change there. */
export interface AdmissionStory {
  /** The destination's pod, by its ZDS uid. */
  readonly pod: string;
  readonly workload: WorkloadUid;
  readonly source: HostPort;
  readonly identity: SpiffeId | undefined;
  readonly to: HostPort;
  readonly originalDestination: string;
  readonly protocol: 'TCP' | 'HBONE';
}

/** A relay apart from its sockets: plain values. */
export interface RelayStory {
  /** The pod that it came in by, by its ZDS uid. */
  readonly pod: string;
  readonly entrance: Entrance;
  /** How admin pages show it, unless the admission does. */
  readonly shown?: Omit<TrackedConnection, 'recheck' | 'cut'>;
  readonly admission?: AdmissionStory;
}

export interface HandedRelay {
  readonly story: RelayStory;
  /** Its lines and counts so far. */
  readonly results: readonly OpenResult[];
  readonly downstream: DetachedConn;
  readonly upstream: DetachedConn;
}

interface Entry {
  readonly relay: Relay;
  readonly story: () => RelayStory;
  readonly results: readonly ConnectionResult[];
  /** Whoever waits for the end of it waits no more. */
  readonly over: (reason: MeshError) => void;
}

export class RelayBook {
  readonly #entries = new Set<Entry>();

  add(entry: Entry): void {
    this.#entries.add(entry);
  }

  delete(entry: Entry): void {
    this.#entries.delete(entry);
  }

  /** Lets go of all that can go on elsewhere; the caller owns their descriptors. What is over in this moment ends here. */
  take(): HandedRelay[] {
    const handed: HandedRelay[] = [];
    for (const entry of this.#entries) {
      const ends = entry.relay.detach();
      if (!ends) continue;
      this.#entries.delete(entry);
      handed.push({ story: entry.story(), results: entry.results.map((result) => result.handOver()), ...ends });
      entry.over(new MeshError('draining', 'another ztunnel goes on with the connection'));
    }
    return handed;
  }
}
