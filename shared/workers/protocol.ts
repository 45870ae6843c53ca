// What the main thread and any worker say to each other, beside what their program is about: plain values that survive structured clone, in
// the order in which they were sent.
import type { WorkloadCertificate } from '../identity/certificate.ts';
import type { SpiffeId } from '../ids.ts';
import type { LogFormat } from '../telemetry/log.ts';
import type { Announcement } from '../telemetry/shared-numbers.ts';

/** What any worker is started with. */
export interface CommonStart {
  readonly index: number;
  /** Places of connections over shared memory, one cell for each worker. */
  readonly held: Int32Array;
  /** Descriptors of open sockets, over shared memory: the main thread closes what a worker could not. */
  readonly ledger: Uint8Array;
  readonly logFormat: LogFormat;
  readonly logLevels: string;
  /** Standard output, or as messages to the main thread. */
  readonly logTo: 'stdout' | 'main';
}

export type ToAnyWorker =
  /** Undefined: the identity is no longer needed. */
  | { readonly kind: 'certificate'; readonly identity: SpiffeId; readonly certificate: WorkloadCertificate | undefined }
  | { readonly kind: 'log-levels'; readonly levels: string }
  | { readonly kind: 'cpu-profile'; readonly seconds: number; readonly frequency: number }
  | { readonly kind: 'heap-snapshot' }
  /** Whether it still answers. */
  | { readonly kind: 'ping' }
  | { readonly kind: 'collect-garbage'; readonly all: boolean }
  /** Ends the thread. */
  | { readonly kind: 'exit' };

export type FromAnyWorker =
  /** All that came before is done: the first message of a worker but for its numbers. */
  | { readonly kind: 'started'; readonly backend: 'native' | 'portable' }
  | { readonly kind: 'need-certificate'; readonly identity: SpiffeId }
  | { readonly kind: 'log'; readonly text: string }
  /** Where a new number is. */
  | { readonly kind: 'numbers'; readonly news: Announcement };

export interface CommonAnswers {
  /** As its file says. */
  readonly 'cpu-profile': string;
  readonly 'heap-snapshot': string;
  readonly ping: undefined;
  readonly 'need-certificate': WorkloadCertificate;
}
