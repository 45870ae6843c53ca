// The conversation between an old and a new ztunnel: typed messages over a Unix socket, with descriptors that are never lost.
import { MeshError } from '#shared/errors.ts';
import { closeFd } from '#shared/os/netns.ts';
import type { SeqpacketConn } from '#shared/os/seqpacket.ts';
import type { Message } from './messages.ts';
import { decode, encode, WITH_DESCRIPTOR } from './messages.ts';

export interface Received {
  readonly message: Message;
  /** Of a `pod` or `listener`, where it is always there; the receiver closes it. -1 otherwise. */
  readonly fd: number;
}

export class TakeoverLink implements Disposable {
  readonly #conn: SeqpacketConn;

  constructor(conn: SeqpacketConn) {
    this.#conn = conn;
  }

  get peer(): SeqpacketConn['peer'] {
    return this.#conn.peer;
  }

  send(message: Message, fd?: number): Promise<void> {
    return this.#conn.send(encode(message), fd);
  }

  /** Undefined when the other side is gone, or this one closed. Throws `protocol_error`, and the reason of a refusal as `draining`. */
  async receive(): Promise<Received | undefined> {
    const packet = await this.#conn.receive();
    if (!packet) return undefined;
    const { data, fds, truncated } = packet;
    try {
      if (truncated) throw new MeshError('protocol_error', 'takeover: a message that is too long');
      const message = decode(data);
      if (message.type === 'refused')
        throw new MeshError('draining', `the ztunnel on the other side of the takeover refuses: ${message.reason}`);
      const expected = WITH_DESCRIPTOR.has(message.type) ? 1 : 0;
      if (fds.length !== expected)
        throw new MeshError('protocol_error', `takeover: ${message.type} with ${fds.length} descriptors instead of ${expected}`);
      return { message, fd: fds[0] ?? -1 };
    } catch (thrown) {
      for (const fd of fds) closeFd(fd);
      throw thrown;
    }
  }

  /** The next message, which must be of the type; rejects with `reset` when the other side is gone. */
  async expect<T extends Message['type']>(type: T): Promise<Extract<Message, { type: T }>> {
    const received = await this.receive();
    if (!received) throw new MeshError('reset', `takeover: the other side hung up before "${type}"`);
    const { message, fd } = received;
    if (isOf(message, type)) return message;
    if (fd >= 0) closeFd(fd);
    throw new MeshError('protocol_error', `takeover: "${message.type}" came instead of "${type}"`);
  }

  close(): void {
    this.#conn.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function isOf<T extends Message['type']>(message: Message, type: T): message is Extract<Message, { type: T }> {
  return message.type === type;
}
