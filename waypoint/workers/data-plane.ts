// Where tunnels are served: in worker threads, or in the main thread. The rest of the process sees only this.
import type { HostPort } from '#shared/address.ts';
import type { DrainOutcome } from '#shared/lifecycle/drain.ts';
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { ConfigChange } from '../xds/changes.ts';

export interface DataPlane extends AsyncDisposable {
  /** Resolves when all threads serve; rejects with what one of them ended of. */
  readonly started: Promise<void>;
  readonly backend: 'native' | 'portable';
  /** 0: the main thread serves. */
  readonly workers: number;
  /** Where tunnels are taken. */
  readonly address: HostPort;
  /** The store of the main thread has taken these. */
  onConfig(changes: readonly ConfigChange[]): void;
  /** Tells clients to go elsewhere, takes their tunnels for a while longer, and then none; resolves when the last ones have ended, or at the deadline. */
  drain(): Promise<DrainOutcome>;
  /** Profiles of a worker; undefined when there is none of the number. */
  profiles(worker: number): ProfileSource | undefined;
  /** Of all threads but that of the caller. `all`: and what else they could do without. */
  collectGarbage(all: boolean): void;
}
