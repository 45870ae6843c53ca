// A question of a pod, from its bytes to those of the answer: read it, find out who asks, answer from the mesh, else ask the name servers.
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Workload } from '../state/model.ts';
import type { DnsView } from './answer.ts';
import { answerFromMesh } from './answer.ts';
import type { AnswerOptions, MeshAnswer, MeshQuestion } from './answer.ts';
import type { DnsMetrics } from './dns-metrics.ts';
import { labelsOf, typeName } from './dns-metrics.ts';
import type { Transport } from './exchange.ts';
import type { Forwarder } from './forward.ts';
import type { Query } from './message.ts';
import {
  answerCount,
  CLASS_IN,
  MAX_MESSAGE,
  payloadOf,
  RCODE,
  rcodeOf,
  readQuery,
  relayed,
  TYPE,
  writeRefusal,
  writeResponse,
} from './message.ts';
import { candidatesOf } from './names.ts';
import type { ResolvConf } from './resolv-conf.ts';

/** The mesh's state; `resolve` fetches what is not held of a host name, where state comes on demand. */
export interface DnsState extends DnsView {
  resolve?(hostname: string, client: Workload): Promise<unknown>;
}

export interface HandlerDeps {
  readonly state: DnsState;
  readonly options: Omit<AnswerOptions, 'search'>;
  /** The pod's own workload; undefined when the control plane does not send it in time. */
  readonly client: () => Workload | undefined | Promise<Workload | undefined>;
  readonly settings: () => Promise<ResolvConf>;
  readonly forwarder: Pick<Forwarder, 'ask'>;
  readonly metrics: DnsMetrics;
  readonly clock: Clock;
  readonly log: Log;
  /** Orders addresses: 0 ≤ x < 1. */
  readonly random: () => number;
}

/** How one question ended, for its line in the log. */
interface Ending {
  readonly result: string;
  readonly endpoints: number;
}

export class DnsHandler {
  readonly #deps: HandlerDeps;

  constructor(deps: HandlerDeps) {
    this.#deps = deps;
  }

  /** The bytes to send back; undefined for what must not be answered. Never rejects. */
  async answer(message: Buffer, transport: Transport): Promise<Buffer | undefined> {
    const reading = readQuery(message);
    if (reading.kind === 'ignored') return undefined;
    if (reading.kind === 'refused') return writeRefusal(message, reading.rcode);
    const { query } = reading;
    const refused = refusalOf(query);
    if (refused !== undefined) return this.#empty(query, refused, transport);
    try {
      const client = await this.#deps.client();
      if (!client) return this.#unknownClient(query, transport);
      return (await this.#fromMesh(query, client, transport)) ?? (await this.#fromNameServers(message, query, client, transport));
    } catch (thrown) {
      this.#deps.log.warn('a DNS query failed', { domain: query.name, error: MeshError.from(thrown) });
      return this.#empty(query, RCODE.SERVFAIL, transport);
    }
  }

  async #fromMesh(query: Query, client: Workload, transport: Transport): Promise<Buffer | undefined> {
    const family = familyOf(query);
    const answer = family && (await this.#lookUp(query.name, family, client));
    if (!answer) return undefined;
    this.#deps.metrics.requests.add(1, ...labelsOf(query.type, transport, client));
    const { alias, addresses } = answer;
    this.#end(query, client, { result: addresses.length > 0 ? 'success' : 'no records', endpoints: addresses.length });
    const shuffled = shuffle(addresses, this.#deps.random);
    return writeResponse(
      query,
      { rcode: RCODE.NOERROR, addresses: shuffled, ...(alias === undefined ? {} : { alias }) },
      limitOf(query, transport),
    );
  }

  async #lookUp(name: string, family: MeshQuestion['family'], client: Workload): Promise<MeshAnswer | undefined> {
    const { state, options } = this.#deps;
    const { search } = await this.#deps.settings();
    const ask = (): MeshAnswer | undefined => answerFromMesh({ name, family }, state, client, { ...options, search });
    const held = ask();
    if (held || !state.resolve) return held;
    const candidates = candidatesOf(name, { clusterDomain: options.clusterDomain, namespace: client.namespace, search });
    await Promise.all(Array.from(candidates, async (candidate) => state.resolve?.(candidate.name, client)));
    return ask();
  }

  async #fromNameServers(message: Buffer, query: Query, client: Workload, transport: Transport): Promise<Buffer> {
    const { metrics, forwarder, clock } = this.#deps;
    const labels = labelsOf(query.type, transport, client);
    metrics.requests.add(1, ...labels);
    metrics.forwarded.add(1, ...labels);
    const start = clock.monotonic();
    try {
      const reply = await forwarder.ask(transport, message, query);
      this.#end(query, client, { result: 'forwarded', endpoints: answerCount(reply) });
      // The name servers need not know a name of the mesh; that it does not exist would be taken for all types.
      const denied = rcodeOf(reply) === RCODE.NXDOMAIN && query.class === CLASS_IN && !familyOf(query);
      if (denied && (await this.#lookUp(query.name, 'IPv4', client))) return this.#empty(query, RCODE.NOERROR, transport);
      return relayed(reply, query, limitOf(query, transport));
    } catch (thrown) {
      metrics.failures.add(1, ...labels);
      this.#end(query, client, { result: `forwarding failed (${MeshError.from(thrown).message})`, endpoints: 0 });
      return this.#empty(query, RCODE.SERVFAIL, transport);
    } finally {
      metrics.duration.cell(...labels).observe((clock.monotonic() - start) / 1000);
    }
  }

  #unknownClient(query: Query, transport: Transport): Buffer {
    this.#deps.metrics.requests.add(1, ...labelsOf(query.type, transport, undefined));
    this.#end(query, undefined, { result: 'unknown source', endpoints: 0 });
    return this.#empty(query, RCODE.SERVFAIL, transport);
  }

  /** A response without records. */
  #empty(query: Query, rcode: number, transport: Transport): Buffer {
    return writeResponse(query, { rcode }, limitOf(query, transport));
  }

  #end(query: Query, client: Workload | undefined, { result, endpoints }: Ending): void {
    const { log } = this.#deps;
    if (!log.enabled('debug')) return;
    log.debug('query', {
      'src.workload': client?.name ?? 'unknown',
      'src.namespace': client?.namespace ?? 'unknown',
      query: typeName(query.type),
      domain: `${query.name}.`,
      result,
      endpoints,
    });
  }
}

/** What is neither answered nor forwarded: later versions of EDNS, and whole zones. */
function refusalOf({ edns, type }: Query): number | undefined {
  if (edns && edns.version > 0) return RCODE.BADVERS;
  return type === TYPE.AXFR ? RCODE.REFUSED : undefined;
}

function familyOf(query: Query): MeshQuestion['family'] | undefined {
  if (query.class !== CLASS_IN) return undefined;
  if (query.type === TYPE.A) return 'IPv4';
  return query.type === TYPE.AAAA ? 'IPv6' : undefined;
}

function limitOf(query: Query, transport: Transport): number {
  return transport === 'tcp' ? MAX_MESSAGE : payloadOf(query);
}

/** Clients take the first address: in another order each time, they spread. */
function shuffle(addresses: readonly string[], random: () => number): string[] {
  const left = [...addresses];
  const shuffled: string[] = [];
  while (left.length > 0) shuffled.push(...left.splice(Math.floor(random() * left.length), 1));
  return shuffled;
}
