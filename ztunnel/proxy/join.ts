// Joins the two ends of a connection and waits for the end of both, whatever ends it.
import { MeshError } from '#shared/errors.ts';
import { relay } from '#shared/hbone/relay.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';

/**
 * Rejects with what cut the connection, at once, or with the error that broke it; a reset by either side is an end like any other.
 */
export async function join(
  client: ByteStream,
  server: ByteStream,
  results: readonly ConnectionResult[],
  signal: AbortSignal,
): Promise<void> {
  const joined = relay(client, server);
  for (const result of results) result.carry(joined);
  const cut = Promise.withResolvers<undefined>();
  const stop = (): void => {
    joined.stop();
    cut.resolve(undefined);
  };
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const end = await Promise.race([joined.done, cut.promise]);
  signal.removeEventListener('abort', stop);
  if (!end) throw cutReason(signal);
  for (const reason of [end.downstream, end.upstream]) if (reason.kind === 'error') throw reason.error;
}

/** A MeshError that somebody cut the connection with; the bare end of a pod otherwise. */
export function cutReason(signal: AbortSignal): MeshError {
  const reason: unknown = signal.reason;
  return reason instanceof MeshError ? reason : new MeshError('draining', 'connection closed due to connection drain');
}
