// What a client says first goes along with CONNECT, or behind it while it waits for its answer, to a peer that takes it so: this saves a new
// connection the way to the peer and back (decision 0026).
import type { EarlyData } from '#shared/hbone/api.ts';
import type { ByteStream, Conn, ReadableListener } from '#shared/reactor/api.ts';

/** Bytes at most: a request, or a ClientHello. They are kept until the answer, in case that another endpoint must be given them. */
const LIMIT = 16_384;

export class FirstBytes implements EarlyData, ReadableListener {
  readonly #conn: Conn;
  #bytes: Uint8Array | undefined;
  #stream: ByteStream | undefined;
  /** The attempt under way has sent them. */
  sent = false;

  constructor(conn: Conn) {
    this.#conn = conn;
  }

  /** What was taken from the client, if anything. */
  get bytes(): Uint8Array | undefined {
    return this.#bytes;
  }

  sendTo(stream: ByteStream): void {
    this.#stream = stream;
    this.#bytes ??= this.#conn.readEarly?.(LIMIT);
    if (this.#bytes) this.#send(this.#bytes);
    else this.#conn.whenReadable?.(this);
  }

  /** Once, and what comes behind that waits for the answer. */
  onReadable(): void {
    this.#bytes = this.#conn.readEarly?.(LIMIT);
    if (this.#bytes) this.#send(this.#bytes);
  }

  leave(): void {
    this.#stream = undefined;
    if (!this.#bytes) this.#conn.whenReadable?.(undefined);
  }

  notProcessed(): void {
    this.sent = false;
  }

  /** They went on their way. */
  forget(): void {
    this.#bytes = undefined;
  }

  #send(bytes: Uint8Array): void {
    this.sent = true;
    this.#stream?.write(bytes);
  }
}
