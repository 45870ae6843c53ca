// Questions that the mesh does not answer go to the name servers of the pod, from inside the pod, and their replies go back as they are.
// Equal questions at the same time share one: a question that comes back to us (the name server is itself a captured pod that asks
// others) then waits for itself and times out, instead of going round for ever.
import { randomInt } from 'node:crypto';
import type { Clock } from '#shared/clock.ts';
import { nextId } from '#shared/collections/id-table.ts';
import { MeshError } from '#shared/errors.ts';
import type { SocketOptions } from '#shared/reactor/api.ts';
import type { Exchange, Transport } from './exchange.ts';
import { exchange } from './exchange.ts';
import type { Query } from './message.ts';
import { isReply, RCODE, rcodeOf } from './message.ts';
import type { ReplyCache } from './reply-cache.ts';
import type { ResolvConf } from './resolv-conf.ts';

const DNS_PORT = 53;

/** Each holds a descriptor while it waits. */
export const MAX_OUTSTANDING = { pod: 256, process: 2048 } as const;

/** What the pods of a process share. */
export interface Upstreams {
  readonly cache: ReplyCache;
  /** Questions under way. */
  outstanding: number;
}

export interface ForwarderDeps {
  /** The pod's sockets. */
  readonly place: Pick<SocketOptions, 'netns' | 'mark'>;
  readonly settings: () => Promise<ResolvConf>;
  readonly upstreams: Upstreams;
  readonly clock: Clock;
  /** Ends what is under way. */
  readonly over: AbortSignal;
}

export class Forwarder {
  readonly #deps: ForwarderDeps;
  /** Tells its kept replies from those of others: what answers within a pod may be the pod itself, under the name server's address. */
  readonly #id = nextId();
  readonly #waiting = new Map<string, Promise<Buffer>>();
  /** The name server that answered last: the first one to ask. */
  #preferred: string | undefined;

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
  }

  /** A name server's reply, under an id of its own; rejects when none gives one. */
  async ask(transport: Transport, message: Buffer, query: Query): Promise<Buffer> {
    const { upstreams, clock } = this.#deps;
    const settings = await this.#deps.settings();
    const question = message.toString('latin1', 2);
    const kept = `${this.#id} ${settings.nameservers.join(' ')} ${question}`;
    const known = upstreams.cache.get(kept, clock.monotonic());
    if (known) return known;
    const waiting = transport + question;
    const same = this.#waiting.get(waiting);
    if (same) return same;
    if (this.#waiting.size >= MAX_OUTSTANDING.pod || upstreams.outstanding >= MAX_OUTSTANDING.process)
      throw new MeshError('limit_reached', `${this.#waiting.size} questions of the pod wait for name servers already`);
    upstreams.outstanding += 1;
    const reply = this.#askAll(settings, transport, message, query).finally(() => {
      upstreams.outstanding -= 1;
      this.#waiting.delete(waiting);
    });
    this.#waiting.set(waiting, reply);
    const fresh = await reply;
    upstreams.cache.put(kept, fresh, clock.monotonic());
    return fresh;
  }

  async #askAll(
    { nameservers, timeout, attempts }: ResolvConf,
    transport: Transport,
    message: Buffer,
    query: Query,
  ): Promise<Buffer> {
    // All of them get their turn within the time that the client waits for one.
    const share = Math.ceil(timeout / nameservers.length);
    let failure = new MeshError('connect_failed', 'no name server to ask: resolv.conf names none outside of the pod itself');
    let refusal: Buffer | undefined;
    for (let attempt = 0; attempt < attempts; attempt++) {
      for (const server of this.#inOrder(nameservers)) {
        try {
          const reply = await this.#exchange(transport, server, share, message, query);
          if (!isRefusal(reply)) {
            this.#preferred = server;
            return reply;
          }
          refusal = reply;
        } catch (thrown) {
          failure = MeshError.from(thrown);
        }
      }
      if (refusal) return refusal;
    }
    throw failure;
  }

  #inOrder(nameservers: readonly string[]): readonly string[] {
    const first = this.#preferred;
    if (first === undefined || !nameservers.includes(first)) return nameservers;
    return [first, ...nameservers.filter((server) => server !== first)];
  }

  #exchange(transport: Transport, server: string, timeout: number, original: Buffer, query: Query): Promise<Buffer> {
    const { place, clock, over } = this.#deps;
    const id = randomInt(0x1_0000);
    const message = Buffer.from(original);
    message.writeUInt16BE(id, 0);
    const accepts: Exchange['accepts'] = (reply) => isReply(reply, id, query);
    return exchange(transport, { server: { ip: server, port: DNS_PORT }, message, accepts, place, timeout, clock, over });
  }
}

/** What makes a resolver ask the next server: this one cannot tell, which is not that there is nothing. */
function isRefusal(reply: Buffer): boolean {
  const rcode = rcodeOf(reply);
  return rcode === RCODE.SERVFAIL || rcode === RCODE.NOTIMP || rcode === RCODE.REFUSED;
}
