// Joins the two ends of a connection and waits for the end of both, whatever ends it.
import { relay } from '#shared/hbone/relay.ts';
import type { CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';

/**
 * Rejects with what cancelled the connection, at once, or with the error that broke it; a reset by either side is an end like any other.
 */
export function join(
  client: ByteStream,
  server: ByteStream,
  results: readonly ConnectionResult[],
  cancel: CancelSignal,
): Promise<void> {
  const joined = relay(client, server);
  for (const result of results) result.carry(joined);
  return new Promise((resolve, reject) => {
    const stop = {
      onCancel: (reason: Error) => {
        joined.stop();
        reject(reason);
      },
    };
    if (cancel.reason) stop.onCancel(cancel.reason);
    else cancel.add(stop);
    void joined.done.then(({ downstream, upstream }) => {
      cancel.delete(stop);
      for (const reason of [downstream, upstream]) if (reason.kind === 'error') return reject(reason.error);
      return resolve();
    });
  });
}
