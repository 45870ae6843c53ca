// A setting of V8 for processes whose objects live as long as a request. Two more things make their garbage old, and are not settings: Map and Set
// (shared/collections/id-table.ts), and a function that is written in an assignment to a property (`stream.onEnd =` and an arrow function). V8 takes it for a
// method, which lives long, and makes it old from the start: once dead it keeps all that it refers to until the next full collection. A function
// that has a name first, or is written in an object literal, is young.
import { setFlagsFromString } from 'node:v8';

/**
 * Call before the work begins. V8 makes objects of a place in the code old from the start when it has seen that those of that place
 * survived a small collection, and never looks again. In a proxy that is a burst of requests that waited; from then on the garbage of
 * every request waits for a full collection.
 */
export function keepGarbageYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
