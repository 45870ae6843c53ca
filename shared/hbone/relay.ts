// Joins two byte streams: what one sends the other gets, with back-pressure, half-close and reset carried across both ways.
import { Http2Code } from '../http2/frames.ts';
import type { ByteStream, CloseReason, Detachable, DetachedConn, StreamHandler } from '../reactor/api.ts';

/** A stream that can lend the place its next bytes go to, as an HTTP/2 stream does. */
type Sink = ByteStream & { space?(): Uint8Array | undefined };

/** Bytes are counted into it as they pass. */
export interface Meter {
  add(bytes: number): void;
}

export interface RelayResult {
  /** Bytes from downstream to upstream. */
  readonly sent: number;
  /** Bytes from upstream to downstream. */
  readonly received: number;
  readonly downstream: CloseReason;
  readonly upstream: CloseReason;
}

/** Starts both streams and joins them until both are over. */
export function relay(downstream: ByteStream, upstream: ByteStream): Relay {
  return new Relay(downstream, upstream);
}

/** Thousands of these wait for most of their lives: whoever extends it needs no other object for a connection, nor a promise. */
export class Relay {
  readonly #down: Side;
  readonly #up: Side;
  #whenDone: PromiseWithResolvers<RelayResult> | undefined;

  /** Starts both streams. */
  constructor(downstream: ByteStream, upstream: ByteStream) {
    this.#down = new Side(downstream, this);
    this.#up = new Side(upstream, this);
    this.#down.join(this.#up);
    this.#up.join(this.#down);
  }

  /** Bytes from downstream to upstream so far. */
  get sent(): number {
    return this.#down.count;
  }

  /** Bytes from upstream to downstream so far. */
  get received(): number {
    return this.#up.count;
  }

  /** Downstream had sent these, and upstream was given them, before the two were joined. */
  sentBefore(bytes: number): void {
    this.#down.passed(bytes);
  }

  /** From now on counts into these too, and first what has passed by now. */
  countInto(sent: Meter, received: Meter): void {
    this.#down.countInto(sent);
    this.#up.countInto(received);
  }

  /** Resolves when both streams are over; never rejects. */
  get done(): Promise<RelayResult> {
    if (!this.#whenDone) {
      this.#whenDone = Promise.withResolvers();
      const result = Relay.#result(this);
      if (result) this.#whenDone.resolve(result);
    }
    return this.#whenDone.promise;
  }

  /** Resets both streams: a policy changed, a deadline passed. */
  stop(code?: number): void {
    this.#down.reset(code);
    this.#up.reset(code);
  }

  /** Lets go of both streams, for another relay to go on with; `done` then never resolves. Undefined: they cannot be let go of, or are over. */
  detach(): { readonly downstream: DetachedConn; readonly upstream: DetachedConn } | undefined {
    const [down, up] = [this.#down.detachable, this.#up.detachable];
    // Both or none.
    return down && up && { downstream: down.detach(), upstream: up.detach() };
  }

  /** For its sides: one of the two is over. */
  sideClosed(): void {
    const result = Relay.#result(this);
    if (!result) return;
    this.onOver(result);
    this.#whenDone?.resolve(result);
  }

  /** Called once, when both streams are over; never from inside the constructor. */
  protected onOver(_result: RelayResult): void {}

  /** Static: an object of a class with private methods takes eight bytes to say so. */
  static #result(relay: Relay): RelayResult | undefined {
    const [down, up] = [relay.#down, relay.#up];
    if (!down.closed || !up.closed) return undefined;
    return { sent: down.count, received: up.count, downstream: down.closed, upstream: up.closed };
  }
}

/** Where a read goes when its sink lends no place: of all, as the sink copies it before anything else is read. */
const FALLBACK = new Uint8Array(16_384);

class Side implements StreamHandler {
  /** Bytes read here. */
  count = 0;
  closed: CloseReason | undefined;
  #meter: Meter | undefined;
  #stream: ByteStream;
  #other!: Side;
  readonly #pair: Relay;
  /** end() was called on this stream. */
  #ended = false;

  constructor(stream: ByteStream, pair: Relay) {
    this.#stream = stream;
    this.#pair = pair;
  }

  join(other: Side): void {
    this.#other = other;
    this.#stream.start(this);
  }

  buffer(): Uint8Array | undefined {
    const sink: Sink = this.#other.#stream;
    return sink.space && (sink.space() ?? FALLBACK);
  }

  countInto(meter: Meter): void {
    meter.add(this.count);
    this.#meter = this.#meter ? new Both(this.#meter, meter) : meter;
  }

  passed(bytes: number): void {
    this.count += bytes;
    this.#meter?.add(bytes);
  }

  reset(code?: number): void {
    this.#stream.reset(code);
  }

  get detachable(): Detachable | undefined {
    const stream: ByteStream & Partial<Detachable> = this.#stream;
    return stream.detach && !stream.over ? (stream as ByteStream & Detachable) : undefined;
  }

  onData(chunk: Uint8Array, last?: boolean): void {
    const other = this.#other;
    // The other end is gone for good: what is sent to it now meets a reset, as it would without a proxy.
    if (other.closed) return this.#stream.reset();
    this.passed(chunk.length);
    if (!other.#stream.write(chunk, last)) this.#stream.pause();
  }

  onEnd(): void {
    this.#other.finish();
  }

  onDrain(): void {
    this.#other.#stream.resume();
  }

  onClose(reason: CloseReason): void {
    this.closed = reason;
    this.#other.peerClosed(reason, this.#ended);
    this.#pair.sideClosed();
  }

  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.end();
  }

  /** The other stream is over. `ordered`: its sending direction had been ended, so both directions ended by themselves. */
  peerClosed(reason: CloseReason, ordered: boolean): void {
    if (this.closed || (reason.kind === 'ended' && ordered)) return;
    // "Received all I wanted" (RST_STREAM NO_ERROR) is an end of sending, and a reset only for who sends on.
    if (reason.kind === 'ended' || (reason.kind === 'reset' && reason.remote && reason.code === Http2Code.noError)) {
      this.finish();
      this.#stream.resume();
    } else this.#stream.reset(reason.kind === 'reset' ? reason.code : undefined);
  }
}

/** Of a relay within a node, whose bytes both of its ends tell. */
class Both implements Meter {
  readonly #first: Meter;
  readonly #second: Meter;

  constructor(first: Meter, second: Meter) {
    this.#first = first;
    this.#second = second;
  }

  add(bytes: number): void {
    this.#first.add(bytes);
    this.#second.add(bytes);
  }
}
