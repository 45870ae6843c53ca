// A connection on a TCP chain: policy, endpoint, connect, relay, record.
import { nextId } from '#shared/collections/id-table.ts';
import type { IdTable, Numbered } from '#shared/collections/id-table.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Baggage } from '#shared/hbone/baggage.ts';
import { relay } from '#shared/hbone/relay.ts';
import type { Specimens } from '#shared/lifecycle/specimens.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { Cluster, Endpoint } from '../cluster/cluster.ts';
import type { UpstreamContext } from '../cluster/upstream.ts';
import type { ConnectionInfo } from '../http/request.ts';
import type { LiveCluster } from '../http/router.ts';
import { newRecord, type TrafficRecord } from '../telemetry/record.ts';
import type { Chain, TcpChain } from './listener.ts';

export interface TcpDeps {
  readonly clock: Clock;
  cluster(name: string): LiveCluster | undefined;
  connect(cluster: Cluster, endpoint: Endpoint, context: UpstreamContext): Promise<ByteStream>;
  record(record: TrafficRecord, chain: TcpChain): void;
  /** Of connections. */
  readonly specimens: Specimens;
  /** One for each connection, to be called when the configuration has changed: it ends those that may not go on. */
  readonly rechecks: IdTable<Recheck>;
}

/** Ends a connection that may not go on. */
export interface Recheck extends Numbered {
  run(): void;
}

/** How the client's side is answered: before a tunnel's 200 by a status, after it by a reset. */
export interface TcpClient {
  accept(): ByteStream;
  refuse(status: number): void;
}

/** Resolves when the connection is over; never rejects. Nothing is accepted before the far side is open. */
export async function serveTcp(
  client: TcpClient,
  chain: TcpChain,
  connection: ConnectionInfo,
  from: Baggage,
  deps: TcpDeps,
  current: () => Chain | undefined,
): Promise<void> {
  const started = deps.clock.monotonic();
  const record = newRecord(connection, from, undefined, deps.clock.now());
  record.cluster = chain.cluster;
  const refuse = (status: number, flag: string, details: string): void => {
    record.flag = flag;
    record.details = details;
    client.refuse(status);
  };
  let used: Endpoint | undefined;
  let denied = denialBy(chain, connection);
  let stop = (): void => undefined;
  const recheck: Recheck = {
    id: nextId(),
    run() {
      const chain = current();
      if (chain?.kind === 'tcp') denied ??= denialBy(chain, connection);
      if (denied !== undefined) stop();
    },
  };
  try {
    if (denied !== undefined) return refuse(403, '-', denied);
    deps.rechecks.add(recheck);
    const cluster = deps.cluster(chain.cluster);
    if (!cluster) return refuse(503, 'NC', 'cluster_not_found');
    const endpoint = cluster.pick();
    if (!endpoint) return refuse(503, 'UH', 'no_healthy_upstream');
    record.service = cluster.config.service;
    record.upstreamHost = endpoint.label;
    record.workload = endpoint.workload;
    record.upstreamIdentity = endpoint.identity;
    used = endpoint;
    used.active += 1;
    const upstream = await deps.connect(cluster.config, endpoint, { connection, identity: chain.identity });
    if (denied !== undefined) {
      upstream.reset();
      return refuse(403, '-', denied);
    }
    const joined = relay(client.accept(), upstream);
    deps.specimens.keep('tcp', joined, record, recheck);
    stop = () => joined.stop();
    const result = await joined.done;
    record.received = result.sent;
    record.sent = result.received;
    if (result.upstream.kind === 'error') record.flag = 'UC';
    if (denied !== undefined) record.details = denied;
  } catch (error) {
    const fault = MeshError.from(error, 'connect_failed');
    record.transportFailure = fault.message;
    refuse(503, 'UF', 'upstream_connect_failed');
  } finally {
    deps.rechecks.delete(recheck);
    if (used) used.active -= 1;
    record.duration = deps.clock.monotonic() - started;
    deps.record(record, chain);
  }
}

/** Why the policies of the chain refuse the connection, if they do. */
function denialBy(chain: TcpChain, connection: ConnectionInfo): string | undefined {
  const denied = chain.rbac.map((check) => check({ connection, head: undefined })).find((verdict) => !verdict.allowed);
  return denied && `rbac_access_denied_matched_policy[${denied.policy}]`;
}
