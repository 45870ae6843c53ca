// Relays of two plain sockets, which another ztunnel can go on with: what is told of each, and how one is let go of. Tunnels are not among
// them: the state of TLS and HTTP/2 stays where it is.
import type { HostPort } from '#shared/address.ts';
import type { Numbered } from '#shared/collections/id-table.ts';
import { IdTable } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import type { Relay } from '#shared/hbone/relay.ts';
import type { SpiffeId, WorkloadUid } from '#shared/ids.ts';
import type { DetachedConn } from '#shared/reactor/api.ts';
import type { ConnectionResult, OpenResult } from '../telemetry/connection-result.ts';
import type { Entrance } from '#shared/lifecycle/connection-limit.ts';
import type { TrackedConnection } from './connection-tracker.ts';
import type { DeliveryRequest } from './delivery.ts';

/** What let an inbound connection in: asked again where it goes on, and whenever policies change there. */
export interface AdmissionStory {
  /** The destination's pod, by its ZDS uid. */
  readonly pod: string;
  readonly workload: WorkloadUid;
  readonly source: HostPort;
  readonly identity: SpiffeId | undefined;
  readonly to: HostPort;
  readonly originalDestination: HostPort;
  readonly protocol: 'TCP' | 'HBONE';
}

export function admissionStory(pod: string, { workload, originalDestination, ...request }: DeliveryRequest): AdmissionStory {
  return { ...request, pod, workload: workload.uid, originalDestination };
}

/** A relay apart from its sockets: plain values. */
export interface RelayStory {
  /** The pod that it came in by, by its ZDS uid. */
  readonly pod: string;
  readonly entrance: Entrance;
  /** How admin pages show it, unless the admission does. */
  readonly shown?: Omit<TrackedConnection, 'id' | 'recheck' | 'cut'>;
  readonly admission?: AdmissionStory;
}

export interface HandedRelay {
  readonly story: RelayStory;
  /** Its lines and counts so far. */
  readonly results: readonly OpenResult[];
  readonly downstream: DetachedConn;
  readonly upstream: DetachedConn;
}

/** A relay that could go on elsewhere. */
export interface HandableRelay extends Numbered {
  readonly results: readonly ConnectionResult[];
  story(): RelayStory;
  detach: Relay['detach'];
  /** It was let go of: nothing of it is left here. */
  handedOver(reason: MeshError): void;
}

export class RelayBook {
  readonly #relays = new IdTable<HandableRelay>();

  add(relay: HandableRelay): void {
    this.#relays.add(relay);
  }

  delete(relay: HandableRelay): void {
    this.#relays.delete(relay);
  }

  /** Lets go of all that can go on elsewhere; the caller owns their descriptors. What is over in this moment ends here. */
  take(): HandedRelay[] {
    const handed: HandedRelay[] = [];
    for (const relay of this.#relays.all()) {
      const ends = relay.detach();
      if (!ends) continue;
      this.#relays.delete(relay);
      handed.push({ story: relay.story(), results: relay.results.map((result) => result.handOver()), ...ends });
      relay.handedOver(new MeshError('draining', 'another ztunnel goes on with the connection'));
    }
    return handed;
  }
}
