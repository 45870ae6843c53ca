// What the main thread and a data worker say to each other: plain values that survive structured clone, in the order they were sent.
// A policy that is sent before a workload is therefore known before it.
import type { NamespacedHostname } from '#shared/ids.ts';
import type { CommonStart } from '#shared/workers/protocol.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { TrackedConnection } from '../proxy/connection-tracker.ts';
import type { PodPlace } from '../proxy/proxy-set.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { NetworkAddress } from '../state/model.ts';
import type { StateChange } from '../state/store.ts';

/** What a worker is started with. */
export interface WorkerStart extends CommonStart {
  readonly config: ZtunnelConfig;
  /** One cell, 1 while memory is short. */
  readonly short: Int32Array;
  readonly maxConnections: number;
  /** Of the hashes in the state (MeshStore). */
  readonly seed: number;
  /** The mesh as known now; what changes afterwards comes as messages. */
  readonly state: readonly StateChange[];
}

export type ToWorker =
  | { readonly kind: 'state'; readonly changes: readonly StateChange[] }
  /** The worker owns the sockets from now on, not the namespace. */
  | { readonly kind: 'start-pod'; readonly pod: PodPlace }
  /** Answered when its last connection has ended. */
  | { readonly kind: 'stop-pod'; readonly uid: string; readonly deadline: number }
  | { readonly kind: 'connections' }
  /** Lets go of the relays that another ztunnel can go on with. */
  | { readonly kind: 'take-relays' }
  /** Of a pod that it serves; the worker owns the descriptors. */
  | { readonly kind: 'resume-relay'; readonly relay: HandedRelay };

/** Answered when the state that was sent before holds what there is of the name, or of who serves the service. */
export type FromWorker =
  | { readonly kind: 'need-address'; readonly name: string }
  | { readonly kind: 'renew-service'; readonly service: NamespacedHostname; readonly address: NetworkAddress };

/** What requests are answered with; other messages are not answered. */
export interface Answers {
  'start-pod': undefined;
  'stop-pod': undefined;
  connections: readonly ConnectionView[];
  'take-relays': readonly HandedRelay[];
  'need-address': undefined;
  'renew-service': undefined;
}

/** A live connection, as the admin page shows it. */
export type ConnectionView = Omit<TrackedConnection, 'id' | 'recheck' | 'cut'>;
