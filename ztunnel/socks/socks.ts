// Port 15080 of a pod's loopback: an application that speaks SOCKS5 says where it wants to go, by address or by name, and goes there as a
// redirected connection does. It hears of success when the way is open, and of failure with a reason.
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { answerFromMesh } from '../dns/answer.ts';
import type { Outbound } from '../proxy/outbound.ts';
import type { Pod, ProxyContext } from '../proxy/pod.ts';
import { isCapturePort, isLoopback, workloadOf } from '../proxy/pod.ts';
import type { Stay } from '../proxy/stay.ts';
import { fetchHost } from '../state/fetch.ts';
import type { Workload } from '../state/model.ts';
import type { Wish } from './messages.ts';
import { replyOf } from './messages.ts';
import { SocksConn } from './socks-conn.ts';

export class Socks {
  readonly #context: ProxyContext;
  readonly #pod: Pod;
  readonly #outbound: Outbound;

  constructor(context: ProxyContext, pod: Pod, outbound: Outbound) {
    this.#context = context;
    this.#pod = pod;
    this.#outbound = outbound;
  }

  /** Serves an accepted connection, and resolves once it is on its way; never rejects. Owns the stay. */
  async serve(accepted: Conn, stay: Stay): Promise<void> {
    const { clock, telemetry } = this.#context;
    const startedAt = clock.monotonic();
    const conn = new SocksConn(accepted, clock, this.#pod.drain.cut);
    let to = accepted.local;
    let source: Workload;
    try {
      const wish = await conn.wish;
      source = await workloadOf(this.#pod, this.#context);
      to = await this.#destination(wish, source);
      if (isLoopback(to.ip) && isCapturePort(to.port, this.#context.config))
        throw new MeshError('self_call', 'attempted recursive call to ourselves');
    } catch (thrown) {
      const error = MeshError.from(thrown);
      stay[Symbol.dispose]();
      telemetry.refusedEarly(accepted.remote, to, 'outbound', error);
      return conn.refuse(replyOf(error));
    }
    // The client's own address is a loopback one, which means nothing to others.
    const from = { ip: ownAddress(source, to.ip) ?? accepted.remote.ip, port: accepted.remote.port };
    await this.#outbound.carry(
      { conn, stay, from, source, to, startedAt },
      { opened: () => conn.accept(), failed: (error) => conn.refuse(replyOf(error)) },
    );
  }

  /** Names of the mesh first, as the DNS proxy knows them, then those that this ztunnel's own name servers know. */
  async #destination(wish: Wish, source: Workload): Promise<HostPort> {
    if (wish.kind === 'ip') return { ip: wish.ip, port: wish.port };
    const { store, config, demand } = this.#context;
    const { clusterDomain, ipv6, preferredServiceNamespace: preferredNamespace } = config;
    const options = { clusterDomain, ipv6, preferredNamespace, search: [] };
    if (demand) await fetchHost(demand, { hostname: wish.name, namespace: source.namespace, clusterDomain });
    for (const family of ['IPv4', 'IPv6'] as const) {
      const ip = answerFromMesh({ name: wish.name, family }, store, source, options)?.addresses[0];
      if (ip !== undefined) return { ip, port: wish.port };
    }
    try {
      const [ip = ''] = await this.#context.names.resolve(wish.name);
      return { ip, port: wish.port };
    } catch (thrown) {
      throw new MeshError('unknown_destination', `SOCKS5: ${MeshError.from(thrown).message}`, { cause: thrown });
    }
  }
}

/** The pod's address of the destination's family. */
function ownAddress({ ips }: Workload, to: string): string | undefined {
  return ips.find((ip) => ip.includes(':') === to.includes(':'));
}
