// What a client has sent by the time that its tunnel is asked for: it goes along with CONNECT to a peer that takes it so, which saves a new
// connection the way to the peer and back (decision 0026).
import type { EarlyData } from '#shared/hbone/api.ts';
import type { Conn } from '#shared/reactor/api.ts';

/** Bytes at most: a request, or a ClientHello. They are kept until the answer, in case that another endpoint must be given them. */
const LIMIT = 16_384;

export class FirstBytes implements EarlyData {
  readonly #conn: Conn;
  #bytes: Uint8Array | undefined;
  /** The attempt under way has sent them. */
  sent = false;

  constructor(conn: Conn) {
    this.#conn = conn;
  }

  /** What was taken from the client, if anything. */
  get bytes(): Uint8Array | undefined {
    return this.#bytes;
  }

  /** The same ones for each attempt. */
  take(): Uint8Array | undefined {
    this.#bytes ??= this.#conn.readEarly?.(LIMIT);
    this.sent = this.#bytes !== undefined;
    return this.#bytes;
  }

  /** They went on their way. */
  forget(): void {
    this.#bytes = undefined;
  }
}
