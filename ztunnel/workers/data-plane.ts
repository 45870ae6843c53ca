// Where connections are served: in worker threads, or in the main thread. The rest of the process sees only this.
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { PodProxy } from '../inpod/pod-manager.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { ConnectionView } from './protocol.ts';
import type { SocketKeeper } from './socket-keeper.ts';

export interface DataPlane extends AsyncDisposable {
  /** Resolves when all threads run; rejects with what one of them ended of. */
  readonly started: Promise<void>;
  readonly backend: 'native' | 'portable';
  /** 0: the main thread serves. */
  readonly workers: number;
  /** What its pods listen on. */
  readonly sockets: SocketKeeper;
  /** Resolves when every thread serves the pod, on the ports of a captured pod unless others are given. */
  start(uid: string, who: PodIdentity, netns: NetnsFd, ports?: readonly number[]): Promise<PodProxy>;
  /** The live connections. */
  connections(): Promise<readonly ConnectionView[]>;
  /** Lets go of the relays that another ztunnel can go on with; the caller owns their descriptors. */
  takeRelays(): Promise<readonly HandedRelay[]>;
  /** Goes on with a relay of a pod that is served here; owns its descriptors. */
  resumeRelay(relay: HandedRelay): void;
  /** Profiles of a worker; undefined when there is none of the number. */
  profiles(worker: number): ProfileSource | undefined;
  /** Of all threads but that of the caller. `all`: and what else they could do without. */
  collectGarbage(all: boolean): void;
}
