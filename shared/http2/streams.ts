// The streams of a session: which are open, which ids were used, and whose turn it is to send.
import { MAX_STREAM_ID } from './frames.ts';
import { PastStreams } from './past-streams.ts';
import type { Http2Stream } from './stream.ts';

export class StreamTable {
  #streams = new IdTable();
  /** Streams with octets that wait for the connection, oldest first. */
  #waiting = new Set<Http2Stream>();
  #nextLocal: number;
  #odd: number;
  readonly past = new PastStreams();
  #lastPeer = 0;

  constructor(role: 'client' | 'server') {
    this.#nextLocal = role === 'client' ? 1 : 2;
    this.#odd = role === 'client' ? 1 : 0;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** The highest id that the peer used. */
  get lastPeer(): number {
    return this.#lastPeer;
  }

  /** The peer opens a stream. */
  peerOpened(id: number): void {
    this.past.opened(id, this.#lastPeer);
    this.#lastPeer = id;
  }

  get exhausted(): boolean {
    return this.#nextLocal > MAX_STREAM_ID;
  }

  get(id: number): Http2Stream | undefined {
    return this.#streams.get(id);
  }

  add(stream: Http2Stream): void {
    this.#streams.add(stream);
  }

  remove(stream: Http2Stream): void {
    const reason = stream.closed;
    if (reason?.kind === 'error' || (reason?.kind === 'reset' && !reason.remote)) this.past.resetHere(stream.id);
    this.#streams.delete(stream.id);
    this.#waiting.delete(stream);
  }

  /** A copy: callers close streams while they walk. */
  all(): Http2Stream[] {
    return this.#streams.all();
  }

  newId(): number {
    const id = this.#nextLocal;
    this.#nextLocal += 2;
    return id;
  }

  isLocal(id: number): boolean {
    return (id & 1) === this.#odd;
  }

  /** True when no stream of this id has ever been. */
  isIdle(id: number): boolean {
    return this.isLocal(id) ? id >= this.#nextLocal : id > this.#lastPeer;
  }

  wait(stream: Http2Stream): void {
    this.#waiting.add(stream);
  }

  /** Lets waiting streams send in turn, a quantum each, while `room()` says that something can leave. */
  pump(room: () => boolean): void {
    for (const stream of this.#waiting) {
      if (!room()) return;
      this.#waiting.delete(stream);
      // A set is walked in insertion order, so a stream that goes back in comes after the others.
      if (stream.pump() && stream.sendWindow.left > 0) this.#waiting.add(stream);
    }
  }
}

/**
 * Streams by id. A Map would do the same, but one whose entries come and go is copied again and again, and each of its dead copies, once
 * it is old, keeps the next one with all that was in it: young garbage of streams then waits for a full collection.
 */
class IdTable {
  /** A power of two; open addressing, at most half full. */
  #slots: (Http2Stream | undefined)[] = Array.from({ length: 8 });
  size = 0;

  get(id: number): Http2Stream | undefined {
    return this.#slots[this.#find(id)];
  }

  add(stream: Http2Stream): void {
    if (this.size * 2 >= this.#slots.length) this.#resize(this.#slots.length * 2);
    this.#slots[this.#find(stream.id)] = stream;
    this.size += 1;
  }

  delete(id: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let gap = this.#find(id);
    if (!slots[gap]) return;
    this.size -= 1;
    slots[gap] = undefined;
    // Who stands behind a gap, away from his own place, moves into it.
    for (let at = (gap + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (!stream) break;
      const home = placeOf(stream.id, mask);
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      slots[gap] = stream;
      slots[at] = undefined;
      gap = at;
    }
    if (slots.length > 64 && this.size * 8 < slots.length) this.#resize(slots.length / 2);
  }

  all(): Http2Stream[] {
    return this.#slots.filter((stream) => stream !== undefined);
  }

  /** Where the stream is, or would be. */
  #find(id: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = placeOf(id, mask);
    for (let stream = slots[at]; stream && stream.id !== id; stream = slots[at]) at = (at + 1) & mask;
    return at;
  }

  #resize(length: number): void {
    const streams = this.all();
    this.#slots = Array.from({ length });
    for (const stream of streams) this.#slots[this.#find(stream.id)] = stream;
  }
}

/** The ids of one side are all odd or all even. */
function placeOf(id: number, mask: number): number {
  return (id >>> 1) & mask;
}
