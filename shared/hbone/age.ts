// How old an HBONE connection may become before it takes no more tunnels: then its peers prove themselves again, with the certificates and by
// the lists of that day.
import type { Clock, Timer } from '../clock.ts';

/** Calls back once at the age, ms, or up to a tenth before: connections that were made at the same moment are not all replaced at another. */
export function atAge(clock: Clock, maxAge: number, callback: () => void): Timer {
  return clock.after(maxAge * (1 - Math.random() / 10), callback);
}
