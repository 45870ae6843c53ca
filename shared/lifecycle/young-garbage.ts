// A setting of V8 for processes whose objects live as long as a request.
import { setFlagsFromString } from 'node:v8';

/**
 * Call before the work begins. V8 makes objects of a place in the code old from the start when it has seen that those of that place
 * survived a small collection, and never looks again. In a proxy that is a burst of requests that waited; from then on the garbage of
 * every request waits for a full collection.
 */
export function keepGarbageYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
