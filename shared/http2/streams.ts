// The streams of a session: which are open, which ids were used, and whose turn it is to send.
import { IdTable } from '../collections/id-table.ts';
import { MAX_STREAM_ID } from './frames.ts';
import { PastStreams } from './past-streams.ts';
import type { Http2Stream } from './stream.ts';

export class StreamTable {
  #streams = new IdTable<Http2Stream>();
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
    this.#streams.delete(stream);
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
      if (stream.pump() && stream.sendWindow > 0) this.#waiting.add(stream);
    }
  }
}
