// An HTTP/2 session that a test feeds with octets, for fuzzing.
import { systemClock } from '#shared/clock.ts';
import { PREFACE } from '#shared/http2/frames.ts';
import { Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { HandStream } from './hand-stream.ts';
import { REQUEST } from './raw-http2.ts';

/** It swallows what is written, and is full now and then until drain(): nothing may come then, but what waited, once, and the end behind it. */
class Feed extends HandStream {
  /** Octets that came although it was full. */
  excess = 0;
  readonly #below: (limit: number) => number;

  constructor(below: (limit: number) => number) {
    super(1);
    this.#below = below;
  }

  override write(chunk: Uint8Array): boolean {
    if (this.excess > 0) throw new Error(`${this.excess} octets for a full transport`);
    if (this.buffered > 0) this.excess = chunk.length;
    // Behind the preface the first frames follow in any case.
    return chunk === PREFACE || this.#below(3) > 0 || super.write(chunk);
  }

  override end(): void {
    this.excess = 0;
  }

  drain(): void {
    if (this.buffered > 0) this.read();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Feeds a session with what a peer sends, piece by piece, beside an application that answers, pauses and resets as `below` says. Throws when
 * the session ends in another way than by a named fault of the peer, or leaves anything open; `what` names the run.
 */
export async function playTraffic(
  role: 'client' | 'server',
  traffic: readonly Buffer[],
  below: (limit: number) => number,
  what: string,
): Promise<CloseReason> {
  const feed = new Feed(below);
  const closes: CloseReason[] = [];
  const streams: { stream: Http2Stream; closes: number }[] = [];
  const use = (stream: Http2Stream): void => {
    const entry = { stream, closes: 0 };
    streams.push(entry);
    if (role === 'server') stream.respond(200);
    stream.start({
      onData: (chunk) => {
        stream.write(chunk);
        if (below(4) === 0) stream.pause();
        if (below(20) === 0) stream.reset();
      },
      onEnd: () => stream.end(),
      onDrain: () => {},
      onClose: () => void entry.closes++,
    });
  };
  const session = new Http2Session(feed, {
    role,
    clock: systemClock,
    limits: below(2) === 0 ? { controlBacklog: 8 } : {},
    onStream: use,
    onClose: (reason) => void closes.push(reason),
  });
  if (role === 'client') for (let i = 0; i < 3; i++) use(session.request(REQUEST));
  for (const piece of traffic) {
    while (feed.paused && feed.buffered > 0) feed.drain();
    if (feed.paused && session.usable) throw new Error(`${what}: it does not read, and nothing waits for the peer`);
    feed.handler.onData(piece);
    if (below(3) === 0) await turn();
    if (below(6) === 0) feed.drain();
    if (below(5) === 0) for (const { stream } of streams) stream.resume();
  }
  await turn();
  if (feed.excess > 0) throw new Error(`${what}: ${feed.excess} octets for a full transport`);
  feed.handler.onClose({ kind: 'ended' });
  await turn();
  // What came whole waits for its reader, the end of the connection or not.
  for (const { stream } of streams) stream.resume();
  await turn();
  await turn();
  const [reason] = closes;
  if (closes.length !== 1 || !reason) throw new Error(`${what}: closed ${closes.length} times`);
  if (reason.kind === 'error' && reason.error.code === 'internal') throw new Error(`${what}: ${reason.error.stack}`);
  if (session.streams !== 0) throw new Error(`${what}: ${session.streams} streams left`);
  for (const entry of streams) if (entry.closes !== 1) throw new Error(`${what}: stream closed ${entry.closes} times`);
  return reason;
}
