// Where connections are served: in worker threads, or in the main thread. The rest of the process sees only this.
import type { ProfileSource } from '#shared/telemetry/profile-source.ts';
import type { StartPod } from '../inpod/pod-manager.ts';
import type { ConnectionView } from './protocol.ts';
import type { SocketKeeper } from './socket-keeper.ts';

export interface DataPlane extends AsyncDisposable {
  readonly backend: 'native' | 'portable';
  /** 0: the main thread serves. */
  readonly workers: number;
  /** What its pods listen on. */
  readonly sockets: SocketKeeper;
  /** Resolves when every thread serves the pod. */
  readonly start: StartPod;
  /** The live connections. */
  connections(): Promise<readonly ConnectionView[]>;
  /** Profiles of a worker; undefined when there is none of the number. */
  profiles(worker: number): ProfileSource | undefined;
}
