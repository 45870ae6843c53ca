// Joins the two ends of a connection and waits for the end of both, whatever ends it.
import { relay } from '#shared/hbone/relay.ts';
import type { CancelSignal } from '#shared/lifecycle/cancel.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { ConnectionResult } from '../telemetry/connection-result.ts';
import type { RelayBook, RelayStory } from './relay-book.ts';

/**
 * Rejects with what cancelled the connection, at once, or with the error that broke it; a reset by either side is an end like any other.
 */
export function join(
  client: ByteStream,
  server: ByteStream,
  results: readonly ConnectionResult[],
  cancel: CancelSignal,
  /** Where it can be let go of, and what is to be told of it then. */
  handing?: { readonly book: RelayBook; readonly story: () => RelayStory },
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
    const entry = handing && {
      relay: joined,
      story: handing.story,
      results,
      over: (reason: Error) => {
        cancel.delete(stop);
        reject(reason);
      },
    };
    if (cancel.reason) stop.onCancel(cancel.reason);
    else cancel.add(stop);
    if (entry) handing.book.add(entry);
    void joined.done.then(({ downstream, upstream }) => {
      cancel.delete(stop);
      if (entry) handing.book.delete(entry);
      for (const reason of [downstream, upstream]) if (reason.kind === 'error') return reject(reason.error);
      return resolve();
    });
  });
}
