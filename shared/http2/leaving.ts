// A connection that this side has ended, until the peer has ended it too. A reset takes with it what is still on its way: behind an orderly end
// it comes only when nothing is, or when the peer has taken none of it for long.
import type { Clock, Timer } from '../clock.ts';
import type { ByteStream } from '../reactor/api.ts';

/** Milliseconds that a peer has to close when it has everything, or needs nothing. */
export const LINGER = 2000;
/** Milliseconds for which it may leave what was sent to it lying, as a reader does that stands still. */
const STALLED = 300_000;
/** The same where nobody can tell how much it has taken: 4 MB, the most that a socket holds, need it at 550 kbit/s. */
const UNKNOWN = 60_000;

/** Resets the transport, whose sending direction was ended, if it is not closed in time; cancel it when it is. `inOrder`: what was written must arrive. */
export function resetWhenDone(clock: Clock, transport: ByteStream, inOrder: boolean): Timer {
  let least = Infinity;
  let idle = 0;
  const look = (): void => {
    const left = transport.unacknowledged;
    if (left !== undefined && left < least) idle = 0;
    else idle += LINGER;
    least = Math.min(least, left ?? Infinity);
    const patience = left === undefined ? UNKNOWN : left > 0 ? STALLED : 0;
    if (!inOrder || idle > patience) return transport.reset();
    timer = clock.after(LINGER, look);
  };
  let timer = clock.after(LINGER, look);
  return { cancel: () => timer.cancel() };
}
