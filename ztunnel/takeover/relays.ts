// Relays on their way from the old ztunnel to the new one: two sockets each, and what was on its way between them.
import { MeshError } from '#shared/errors.ts';
import { closeFd } from '#shared/os/netns.ts';
import type { DetachedConn } from '#shared/reactor/api.ts';
import type { HandedRelay } from '../proxy/relay-book.ts';
import type { Received, TakeoverLink } from './link.ts';

/** Bytes in one message, before base64. */
const PIECE = 24 * 1024;

/** Closes the descriptors once they were sent; rejects when they could not be, and then they are the caller's still. */
export async function sendRelay(link: TakeoverLink, { story, results, downstream, upstream }: HandedRelay): Promise<void> {
  await link.send({ type: 'relay', story, results, remote: downstream.remote }, downstream.fd);
  for (const [side, { unsent }] of Object.entries({ downstream, upstream }) as ['downstream' | 'upstream', DetachedConn][])
    for (let at = 0; at < unsent.length; at += PIECE)
      await link.send({ type: 'relay-bytes', side, data: Buffer.from(unsent.subarray(at, at + PIECE)).toString('base64') });
  await link.send({ type: 'relay-end', remote: upstream.remote }, upstream.fd);
  closeFd(downstream.fd);
  closeFd(upstream.fd);
}

/** Puts the messages of a relay together again. */
export class RelayCollection implements Disposable {
  #begun: { readonly message: Extract<Received['message'], { type: 'relay' }>; readonly fd: number } | undefined;
  readonly #bytes = { downstream: [] as Uint8Array[], upstream: [] as Uint8Array[] };

  /** The relay that is complete with this message; the caller owns its descriptors. Throws `protocol_error`. */
  take({ message, fd }: Received): HandedRelay | undefined {
    if (message.type === 'relay' && !this.#begun) {
      this.#begun = { message, fd };
      return undefined;
    }
    if (message.type === 'relay-bytes' && this.#begun) {
      this.#bytes[message.side].push(Buffer.from(message.data, 'base64'));
      return undefined;
    }
    if (message.type !== 'relay-end' || !this.#begun) {
      if (fd >= 0) closeFd(fd);
      throw new MeshError('protocol_error', `takeover: "${message.type}" out of turn`);
    }
    const { message: head, fd: first } = this.#begun;
    this.#begun = undefined;
    const unsentOf = (side: 'downstream' | 'upstream'): Uint8Array => Buffer.concat(this.#bytes[side].splice(0));
    return {
      story: head.story,
      results: head.results,
      downstream: { fd: first, remote: head.remote, unsent: unsentOf('downstream') },
      upstream: { fd, remote: message.remote, unsent: unsentOf('upstream') },
    };
  }

  /** What is not complete is closed: its ends see a reset. */
  [Symbol.dispose](): void {
    if (this.#begun) closeFd(this.#begun.fd);
    this.#begun = undefined;
  }
}
