// What the main thread and a data worker say to each other: plain values that survive structured clone, in the order they were sent.
// A policy that is sent before a workload is therefore known before it.
import type { ErrorCode } from '#shared/errors.ts';
import { MeshError } from '#shared/errors.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { LogFormat } from '#shared/telemetry/log.ts';
import type { Announcement } from '#shared/telemetry/shared-numbers.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { TrackedConnection } from '../proxy/connection-tracker.ts';
import type { PodPlace } from '../proxy/proxy-set.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { StateChange } from '../state/store.ts';

/** What a worker is started with. */
export interface WorkerStart {
  readonly config: ZtunnelConfig;
  readonly index: number;
  /** Places of connections over shared memory, one cell for each worker. */
  readonly held: Int32Array;
  /** One cell, 1 while memory is short. */
  readonly short: Int32Array;
  readonly maxConnections: number;
  /** Descriptors of open sockets, over shared memory: the main thread closes what a worker could not. */
  readonly ledger: Uint8Array;
  readonly logFormat: LogFormat;
  readonly logLevels: string;
  /** Standard output, or as messages to the main thread. */
  readonly logTo: 'stdout' | 'main';
  /** Of the hashes in the state (MeshStore). */
  readonly seed: number;
  /** The mesh as known now; what changes afterwards comes as messages. */
  readonly state: readonly StateChange[];
}

export type ToWorker =
  | { readonly kind: 'state'; readonly changes: readonly StateChange[] }
  /** Undefined: the identity is no longer needed. */
  | { readonly kind: 'certificate'; readonly identity: SpiffeId; readonly certificate: WorkloadCertificate | undefined }
  | { readonly kind: 'log-levels'; readonly levels: string }
  /** The worker owns the sockets from now on, not the namespace. */
  | { readonly kind: 'start-pod'; readonly pod: PodPlace }
  /** Answered when its last connection has ended. */
  | { readonly kind: 'stop-pod'; readonly uid: string; readonly deadline: number }
  | { readonly kind: 'connections' }
  /** Lets go of the relays that another ztunnel can go on with. */
  | { readonly kind: 'take-relays' }
  /** Of a pod that it serves; the worker owns the descriptors. */
  | { readonly kind: 'resume-relay'; readonly relay: HandedRelay }
  | { readonly kind: 'cpu-profile'; readonly seconds: number; readonly frequency: number }
  | { readonly kind: 'heap-snapshot' }
  | { readonly kind: 'collect-garbage'; readonly all: boolean }
  /** Ends the thread. */
  | { readonly kind: 'exit' };

export type FromWorker =
  /** All that came before is done: the first message of a worker. */
  | { readonly kind: 'started'; readonly backend: 'native' | 'portable' }
  | { readonly kind: 'need-certificate'; readonly identity: SpiffeId }
  /** Answered when the state that was sent before holds what there is of the name. */
  | { readonly kind: 'need-address'; readonly name: string }
  | { readonly kind: 'log'; readonly text: string }
  /** Where a new number is. */
  | { readonly kind: 'numbers'; readonly news: Announcement };

/** What requests are answered with; other messages are not answered. */
export interface Answers {
  'start-pod': undefined;
  'stop-pod': undefined;
  connections: readonly ConnectionView[];
  'take-relays': readonly HandedRelay[];
  /** As its file says. */
  'cpu-profile': string;
  'heap-snapshot': string;
  'need-certificate': WorkloadCertificate;
  'need-address': undefined;
}

/** A live connection, as the admin page shows it. */
export type ConnectionView = Omit<TrackedConnection, 'recheck' | 'cut'>;

/** A MeshError on its way between threads: a clone would lose its class. */
export interface Fault {
  readonly code: ErrorCode;
  readonly message: string;
}

export function toFault(thrown: unknown): Fault {
  const { code, message } = MeshError.from(thrown);
  return { code, message };
}

export function fromFault({ code, message }: Fault): MeshError {
  return new MeshError(code, message);
}
