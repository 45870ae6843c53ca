// What the main thread and a data worker of a waypoint say to each other, beside what any worker hears and says.
import type { DrainOutcome } from '#shared/lifecycle/drain.ts';
import type { DetachedConn, ListeningSocket } from '#shared/reactor/api.ts';
import type { CommonStart } from '#shared/workers/protocol.ts';
import type { WaypointConfig } from '../config.ts';
import type { ConfigChange } from '../xds/changes.ts';

/** What a worker is started with. */
export interface WorkerStart extends CommonStart {
  readonly config: WaypointConfig;
  /** One cell, 1 while memory is short. */
  readonly short: Int32Array;
  /** The configuration as known now; what changes afterwards comes as messages. */
  readonly changes: readonly ConfigChange[];
}

export type ToWorker =
  | { readonly kind: 'config'; readonly changes: readonly ConfigChange[] }
  /** The worker owns the socket from now on. */
  | { readonly kind: 'listen'; readonly socket: ListeningSocket }
  /** A connection that another worker accepted, with its place; the worker owns the descriptor. */
  | { readonly kind: 'adopt'; readonly conn: DetachedConn }
  | { readonly kind: 'drain-http' }
  /** Answered when the last tunnel has ended, or after `deadline` ms. */
  | { readonly kind: 'drain'; readonly deadline: number };

export type FromWorker =
  /** For the worker `to`, which has its place. */
  | { readonly kind: 'hand-on'; readonly to: number; readonly conn: DetachedConn }
  /** Whole lines, when they do not go to standard output. */
  | { readonly kind: 'access-log'; readonly lines: Uint8Array };

export interface Answers {
  readonly listen: undefined;
  readonly drain: DrainOutcome;
}
