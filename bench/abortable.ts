// Work that an abort or a deadline leaves behind: the caller goes on to clean up, and what the work was about goes with that.
import { MeshError } from '#shared/errors.ts';

/** What takes longer, `ms`, has failed: `what` names it. */
export interface Deadline {
  readonly ms: number;
  readonly what: string;
}

/** As the work settles, or rejects when the signal or the deadline comes first. What is left of the work then is not waited for. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal, deadline?: Deadline): Promise<T> {
  signal.throwIfAborted();
  const over = Promise.withResolvers<never>();
  const abort = (): void => over.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  const late = (): void => over.reject(new MeshError('internal', `${deadline?.what}: nothing came of it in ${deadline?.ms} ms`));
  const timer = deadline && setTimeout(late, deadline.ms);
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    clearTimeout(timer);
  }
}
