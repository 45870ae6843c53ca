// The DNS proxy of a ztunnel: a server in every pod, one set of limits and numbers for all. It runs on the main thread, where questions of
// a whole node are few beside its connections (docs/dns.md).
import type { HostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import { netnsIdentity } from '#shared/os/netns.ts';
import type { NetnsFd } from '#shared/reactor/api.ts';
import type { Logging } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { ZtunnelConfig } from '../config.ts';
import type { PodProxy, StartPod } from '../inpod/pod-manager.ts';
import type { Workload } from '../state/model.ts';
import type { PodIdentity } from '../state/workloads.ts';
import { DnsMetrics } from './dns-metrics.ts';
import type { Upstreams } from './forward.ts';
import { Forwarder } from './forward.ts';
import type { DnsState } from './handler.ts';
import { DnsHandler } from './handler.ts';
import { PodProcesses } from './pod-processes.ts';
import { PodSettings } from './pod-settings.ts';
import { ReplyCache } from './reply-cache.ts';
import { bindDns, DnsServer } from './server.ts';

/** How long a pod's own workload may take to arrive from the control plane, ms. */
const CLIENT_TIMEOUT = 5000;

export interface DnsProxyDeps {
  readonly config: Pick<
    ZtunnelConfig,
    'dnsProxyAddress' | 'ipv6' | 'inpodPortReuse' | 'packetMark' | 'clusterDomain' | 'preferredServiceNamespace'
  >;
  readonly store: DnsState & {
    readonly workloads: { localPod(pod: PodIdentity): Workload | undefined };
    waitForLocal(pod: PodIdentity, signal: AbortSignal): Promise<Workload | undefined>;
  };
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly clock: Clock;
  /** Default: the ztunnel's own. */
  readonly resolvConf?: string;
  /** Where procfs is mounted. */
  readonly proc?: string;
  readonly random?: () => number;
}

export class DnsProxy {
  readonly #deps: DnsProxyDeps;
  readonly #metrics: DnsMetrics;
  readonly #processes: PodProcesses;
  readonly #upstreams: Upstreams = { cache: new ReplyCache(), outstanding: 0 };

  constructor(deps: DnsProxyDeps) {
    this.#deps = deps;
    this.#metrics = new DnsMetrics(deps.metrics);
    this.#processes = new PodProcesses(deps.clock, deps.proc);
  }

  /** Binds in the pod's namespace (undefined: in ours), which stays the caller's; throws when a port is taken. */
  start(who: PodIdentity, netns: NetnsFd): PodProxy {
    const { config, store, clock, logging, random = Math.random } = this.#deps;
    const { packetMark: mark } = config;
    const place = { ...(netns === undefined ? {} : { netns }), ...(mark === undefined ? {} : { mark }) };
    const log = logging.scope('dns');
    const sockets = bindDns({ ...place, addresses: addressesOf(config), reusePort: config.inpodPortReuse });
    const over = new AbortController();
    const settings = new PodSettings({
      netnsId: netns === undefined ? undefined : netnsIdentity(netns),
      processes: this.#processes,
      fallback: this.#deps.resolvConf ?? '/etc/resolv.conf',
      clock,
    });
    const forwarder = new Forwarder({
      place,
      settings: () => settings.current(),
      upstreams: this.#upstreams,
      clock,
      over: over.signal,
    });
    let waiting: Promise<Workload | undefined> | undefined;
    const arrival = async (): Promise<Workload | undefined> => {
      const found = await store.waitForLocal(who, AbortSignal.any([over.signal, AbortSignal.timeout(CLIENT_TIMEOUT)]));
      waiting = undefined;
      return found;
    };
    const handler = new DnsHandler({
      state: store,
      options: {
        clusterDomain: config.clusterDomain,
        ipv6: config.ipv6,
        preferredNamespace: config.preferredServiceNamespace,
      },
      client: () => store.workloads.localPod(who) ?? (waiting ??= arrival()),
      settings: () => settings.current(),
      forwarder,
      metrics: this.#metrics,
      clock,
      log,
      random,
    });
    const server = new DnsServer(sockets, { answer: (message, transport) => handler.answer(message, transport), clock, log });
    return {
      async stop(deadline) {
        await server.stop(deadline);
        over.abort();
      },
    };
  }
}

/** Pods are served by both: no connection comes before names can be looked up, and the other way round. */
export function withDns(dns: DnsProxy, start: StartPod): StartPod {
  return async (uid, who, netns) => {
    const names = dns.start(who, netns);
    try {
      const connections = await start(uid, who, netns);
      return {
        async stop(deadline) {
          await Promise.all([names.stop(deadline), connections.stop(deadline)]);
        },
      };
    } catch (thrown) {
      await names.stop(0);
      throw thrown;
    }
  };
}

function addressesOf({ dnsProxyAddress: { ip, port }, ipv6 }: DnsProxyDeps['config']): HostPort[] {
  if (ip !== 'localhost') return [{ ip, port }];
  return [{ ip: '127.0.0.1', port }, ...(ipv6 ? [{ ip: '::1', port }] : [])];
}
