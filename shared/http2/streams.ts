// The streams of a session: which are open, which ids were used, and whose turn it is to send.
import { MAX_STREAM_ID } from './frames.ts';
import type { Http2Stream } from './stream.ts';

export class StreamTable {
  #streams = new Map<number, Http2Stream>();
  /** Streams with octets that wait for the connection, oldest first. */
  #waiting = new Set<Http2Stream>();
  #nextLocal: number;
  #odd: number;
  /** The highest id that the peer used. */
  lastPeer = 0;

  constructor(role: 'client' | 'server') {
    this.#nextLocal = role === 'client' ? 1 : 2;
    this.#odd = role === 'client' ? 1 : 0;
  }

  get size(): number {
    return this.#streams.size;
  }

  get exhausted(): boolean {
    return this.#nextLocal > MAX_STREAM_ID;
  }

  get(id: number): Http2Stream | undefined {
    return this.#streams.get(id);
  }

  add(stream: Http2Stream): void {
    this.#streams.set(stream.id, stream);
  }

  remove(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    this.#waiting.delete(stream);
  }

  /** A copy: callers close streams while they walk. */
  all(): Http2Stream[] {
    return [...this.#streams.values()];
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
    return this.isLocal(id) ? id >= this.#nextLocal : id > this.lastPeer;
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
