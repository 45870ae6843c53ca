// Looking at the first bytes of a connection before it is known what serves it.
import type { Clock } from '#shared/clock.ts';
import { deliver } from '../http/upgraded.ts';
import type { ByteStream, CloseReason, StreamHandler } from '#shared/reactor/api.ts';

/** `http2`: HTTP/2 with prior knowledge; `other`: not HTTP, or nothing came in time. */
export type Detected = 'http1' | 'http2' | 'other';

const PREFACE = 'PRI * HTTP/2.0\r\n';
/** A method is a token; the longest in the registry has 16 letters. */
const REQUEST_START = /^[A-Z!#$%&'*+\-.^_`|~0-9a-z]{1,32} [!-~]/u;
const MAYBE_REQUEST = /^[A-Z!#$%&'*+\-.^_`|~0-9a-z]{0,32} ?$/u;

/** Milliseconds after the timeout in which what the kernel has by then is read: a process that was held up must not take it for silence. */
const LAST_LOOK = 1;

/** What the bytes say; undefined: more are needed. */
export function detect(bytes: Uint8Array): Detected | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1');
  if (text.startsWith(PREFACE)) return 'http2';
  if (PREFACE.startsWith(text)) return undefined;
  if (REQUEST_START.test(text)) return 'http1';
  return MAYBE_REQUEST.test(text) ? undefined : 'other';
}

/** Starts the stream, waits for the first bytes, and hands over a stream that begins with them again. */
export class DetectingStream implements ByteStream {
  readonly #stream: ByteStream;
  #handler: StreamHandler | undefined;
  #held: Uint8Array[] = [];
  #ended = false;
  #endAnnounced = false;
  #closeAnnounced = false;
  #closed: CloseReason | undefined;
  #paused = false;
  #decide: ((detected: Detected) => void) | undefined;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** Resolves with what the client speaks; with `other` when `timeout` milliseconds pass or the client ends first. */
  detect(clock: Clock, timeout: number): Promise<Detected> {
    return new Promise((resolve) => {
      const late = (): void => {
        timer = clock.after(LAST_LOOK, () => this.#decide?.('other'));
      };
      let timer = timeout > 0 ? clock.after(timeout, late) : undefined;
      const decide = (detected: Detected): void => {
        this.#decide = undefined;
        timer?.cancel();
        this.#stream.pause();
        resolve(detected);
      };
      this.#decide = decide;
      this.#stream.start({
        onData: (chunk) => this.#onData(chunk),
        onEnd: () => {
          this.#ended = true;
          if (this.#handler) this.#announceEnd(this.#handler);
          this.#decide?.('other');
        },
        onDrain: () => this.#handler?.onDrain(),
        onClose: (reason) => {
          this.#closed = reason;
          if (this.#handler) this.#announceEnd(this.#handler);
          this.#decide?.('other');
        },
      });
    });
  }

  start(handler: StreamHandler): void {
    queueMicrotask(() => {
      this.#handler = handler;
      this.#replay(handler);
      if (!this.#paused) this.#stream.resume();
    });
  }

  write(chunk: Uint8Array): boolean {
    return this.#stream.write(chunk);
  }

  end(): void {
    this.#stream.end();
  }

  reset(code?: number): void {
    this.#stream.reset(code);
  }

  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#handler) return;
    if (this.#held.length > 0) this.#replay(this.#handler);
    if (!this.#paused) this.#stream.resume();
  }

  get buffered(): number {
    return this.#stream.buffered;
  }

  /** Each once, the end before the close. A stream that was reset has no end. */
  #announceEnd(handler: StreamHandler): void {
    if (this.#ended && !this.#endAnnounced && this.#held.length === 0) {
      this.#endAnnounced = true;
      handler.onEnd();
    }
    if (!this.#closed || this.#closeAnnounced) return;
    this.#closeAnnounced = true;
    handler.onClose(this.#closed);
  }

  #onData(chunk: Uint8Array): void {
    if (this.#handler && this.#held.length === 0) return deliver(this.#handler, chunk);
    this.#held.push(Uint8Array.from(chunk));
    const detected = this.#decide && detect(Buffer.concat(this.#held));
    if (detected) this.#decide?.(detected);
  }

  #replay(handler: StreamHandler): void {
    while (!this.#paused) {
      const chunk = this.#held.shift();
      if (!chunk) break;
      deliver(handler, chunk);
    }
    if (this.#held.length > 0) return;
    this.#announceEnd(handler);
  }
}
