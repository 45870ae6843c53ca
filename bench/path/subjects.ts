// Whose ztunnels are measured, and how they are started.
import type { ZtunnelOverride } from '../../cli/lab/system.ts';
import type { Subject } from './rows.ts';

export interface Subjects {
  readonly backend: 'native' | 'portable';
  /** ZTUNNEL_WORKER_THREADS: `main`, or a number. */
  readonly workers: string;
  /** Binary of another ztunnel. */
  readonly peerZtunnel?: string | undefined;
}

export function ztunnelOf(subject: Subject, { backend, workers, peerZtunnel }: Subjects): ZtunnelOverride {
  if (subject === 'culvert') return { env: { CULVERT_BACKEND: backend, ZTUNNEL_WORKER_THREADS: workers } };
  // With the threads that it takes by itself. Its own DNS capture would need a resolver in each pod; ours is off here too.
  return { argv: [peerZtunnel ?? 'ztunnel'], env: { ISTIO_META_DNS_CAPTURE: 'false' } };
}

/** Threads of one of our ztunnels that serve connections. */
export function servingThreads({ workers }: Pick<Subjects, 'workers'>): number {
  return workers === 'main' ? 1 : Number(workers);
}

/** For the title. */
export function describeSubject({ backend, workers }: Subjects): string {
  const served = workers === 'main' ? 'the main thread' : workers === '1' ? 'one worker' : `${workers} workers`;
  return `${backend} backend, connections served by ${served} of each ztunnel`;
}
