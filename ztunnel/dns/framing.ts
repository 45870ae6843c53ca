// DNS over TCP: each message behind its length (RFC 1035, 4.2.2).

export function framed(message: Buffer): Buffer {
  const frame = Buffer.alloc(2 + message.length);
  frame.writeUInt16BE(message.length, 0);
  message.copy(frame, 2);
  return frame;
}

/** Cuts a stream into messages; holds no more than one of them, and what comes while it is paused. */
export class MessageReader {
  readonly #onMessage: (message: Buffer) => void;
  #held: Buffer = Buffer.alloc(0);
  #paused = false;

  constructor(onMessage: (message: Buffer) => void) {
    this.#onMessage = onMessage;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Also within read(): messages wait from here on. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.read(Buffer.alloc(0));
  }

  read(chunk: Buffer): void {
    let rest = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (rest.length >= 2 && !this.#paused) {
      const end = 2 + rest.readUInt16BE(0);
      if (rest.length < end) break;
      this.#onMessage(Buffer.from(rest.subarray(2, end)));
      rest = rest.subarray(end);
    }
    this.#held = Buffer.from(rest);
  }
}
