// Joins two byte streams: what one sends the other gets, with back-pressure, half-close and reset carried across both ways.
import { Http2Code } from '../http2/frames.ts';
import type { ByteStream, CloseReason, Detachable, DetachedConn, StreamHandler } from '../reactor/api.ts';

/** A stream that can lend the place its next bytes go to, as an HTTP/2 stream does. */
type Sink = ByteStream & { space?(): Uint8Array | undefined };

export interface RelayResult {
  /** Bytes from downstream to upstream. */
  readonly sent: number;
  /** Bytes from upstream to downstream. */
  readonly received: number;
  readonly downstream: CloseReason;
  readonly upstream: CloseReason;
}

export interface Relay {
  /** Bytes from downstream to upstream so far. */
  readonly sent: number;
  /** Bytes from upstream to downstream so far. */
  readonly received: number;
  /** Resolves when both streams are over; never rejects. */
  readonly done: Promise<RelayResult>;
  /** Resets both streams: a policy changed, a deadline passed. */
  stop(code?: number): void;
  /** Lets go of both streams, for another relay to go on with; `done` then never resolves. Undefined: they cannot be let go of, or are over. */
  detach(): { readonly downstream: DetachedConn; readonly upstream: DetachedConn } | undefined;
}

/** Starts both streams and joins them until both are over. */
export function relay(downstream: ByteStream, upstream: ByteStream): Relay {
  return new Pair(downstream, upstream);
}

/** A class, as thousands of these wait for most of their lives. */
class Pair implements Relay {
  readonly done: Promise<RelayResult>;
  readonly #down: Side;
  readonly #up: Side;
  #resolve!: (result: RelayResult) => void;

  constructor(downstream: ByteStream, upstream: ByteStream) {
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#down = new Side(downstream, this);
    this.#up = new Side(upstream, this);
    this.#down.join(this.#up);
    this.#up.join(this.#down);
  }

  get sent(): number {
    return this.#down.count;
  }

  get received(): number {
    return this.#up.count;
  }

  stop(code?: number): void {
    this.#down.reset(code);
    this.#up.reset(code);
  }

  detach(): ReturnType<Relay['detach']> {
    const [down, up] = [this.#down.detachable, this.#up.detachable];
    // Both or none.
    return down && up && { downstream: down.detach(), upstream: up.detach() };
  }

  /** One of the two is over. */
  sideClosed(): void {
    const [down, up] = [this.#down, this.#up];
    if (down.closed && up.closed)
      this.#resolve({ sent: down.count, received: up.count, downstream: down.closed, upstream: up.closed });
  }
}

/** Where a read goes when its sink lends no place. */
const FALLBACK = 16_384;

class Side implements StreamHandler {
  /** Bytes read here. */
  count = 0;
  closed: CloseReason | undefined;
  buffer?: () => Uint8Array;
  #stream: ByteStream;
  #other!: Side;
  readonly #pair: Pair;
  /** end() was called on this stream. */
  #ended = false;

  constructor(stream: ByteStream, pair: Pair) {
    this.#stream = stream;
    this.#pair = pair;
  }

  join(other: Side): void {
    this.#other = other;
    const sink: Sink = other.#stream;
    if (sink.space) {
      let fallback: Uint8Array | undefined;
      this.buffer = () => sink.space?.() ?? (fallback ??= new Uint8Array(FALLBACK));
    }
    this.#stream.start(this);
  }

  reset(code?: number): void {
    this.#stream.reset(code);
  }

  get detachable(): Detachable | undefined {
    const stream: ByteStream & Partial<Detachable> = this.#stream;
    return stream.detach && !stream.over ? (stream as ByteStream & Detachable) : undefined;
  }

  onData(chunk: Uint8Array): void {
    const other = this.#other;
    // The other end is gone for good: what is sent to it now meets a reset, as it would without a proxy.
    if (other.closed) return this.#stream.reset();
    this.count += chunk.length;
    if (!other.#stream.write(chunk)) this.#stream.pause();
  }

  onEnd(): void {
    this.#other.#end();
  }

  onDrain(): void {
    this.#other.#stream.resume();
  }

  onClose(reason: CloseReason): void {
    this.closed = reason;
    this.#other.#peerClosed(reason, this.#ended);
    this.#pair.sideClosed();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.end();
  }

  /** The other stream is over. `ordered`: its sending direction had been ended, so both directions ended by themselves. */
  #peerClosed(reason: CloseReason, ordered: boolean): void {
    if (this.closed || (reason.kind === 'ended' && ordered)) return;
    // "Received all I wanted" (RST_STREAM NO_ERROR) is an end of sending, and a reset only for who sends on.
    if (reason.kind === 'ended' || (reason.kind === 'reset' && reason.remote && reason.code === Http2Code.noError)) {
      this.#end();
      this.#stream.resume();
    } else this.#stream.reset(reason.kind === 'reset' ? reason.code : undefined);
  }
}
