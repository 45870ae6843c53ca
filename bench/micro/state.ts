// What one thread spends on the state of a mesh and on its metrics, one operation at a time: `node bench/micro/state.ts [MS]`. The
// sizes are those of the benchmarks of Istio's ztunnel (facts: ztunnel 14).
import { create, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { ipToBytes } from '#shared/address.ts';
import { systemClock } from '#shared/clock.ts';
import { AddressSchema, LoadBalancing_Mode, LoadBalancing_Scope } from '#shared/gen/istio/workload/workload_pb.ts';
import type { ServiceSchema, WorkloadSchema } from '#shared/gen/istio/workload/workload_pb.ts';
import { namespacedHostname } from '#shared/ids.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { Balancer } from '../../ztunnel/state/balancer.ts';
import { Ejections } from '../../ztunnel/state/ejections.ts';
import { pickEndpoint } from '../../ztunnel/state/load-balance.ts';
import { MeshStore } from '../../ztunnel/state/store.ts';
import { addressType } from '../../ztunnel/state/xds-types.ts';
import { UNKNOWN_PEER } from '../../ztunnel/telemetry/peer.ts';
import { TrafficMetrics } from '../../ztunnel/telemetry/traffic-metrics.ts';
import { median } from '../statistics.ts';

const NAMESPACE = 'shop';
const CLIENT = `${NAMESPACE}/client`;

/** Fields of a message, not a message. */
type Fields<D extends DescMessage> = Extract<MessageInitShape<D>, { $typeName?: never }>;

interface Resource {
  readonly name: string;
  readonly bytes: Uint8Array;
}

function workload(index: number, init: Fields<typeof WorkloadSchema> = {}): Resource {
  const name = `${NAMESPACE}/pod-${index}`;
  const value = { uid: name, name, namespace: NAMESPACE, addresses: [ip(10, index)], locality: placeOf(index), ...init };
  return { name: value.uid, bytes: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value } })) };
}

function service(index: number, init: Fields<typeof ServiceSchema> = {}): Resource {
  const hostname = hostOf(index);
  const value = {
    name: hostname,
    namespace: NAMESPACE,
    hostname,
    addresses: [{ address: ip(100, index) }],
    ports: PORTS,
    ...init,
  };
  const bytes = toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value } }));
  return { name: `${NAMESPACE}/${hostname}`, bytes };
}

const PORTS = [{ servicePort: 80, targetPort: 8080 }];
const hostOf = (index: number): string => `service-${index}.${NAMESPACE}.svc.cluster.local`;
const placeOf = (index: number) => ({ region: `region-${index % 3}`, zone: `zone-${index % 9}` });
const textOf = (first: number, index: number): string => `${first}.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`;
const ip = (first: number, index: number): Uint8Array => ipToBytes(textOf(first, index)) ?? new Uint8Array();
const behind = (index: number): Fields<typeof WorkloadSchema> => ({
  services: { [`${NAMESPACE}/${hostOf(index)}`]: { ports: PORTS } },
});

/** A store, and the way that a response of the control plane takes into it. */
function mesh(...resources: readonly Resource[]) {
  const store = new MeshStore('node-1');
  const type = addressType(store, new Logging({ sink: { write: () => undefined } }).scope('xds'));
  const insert = (some: readonly Resource[]): void => {
    const set = some.map(({ name, bytes }) => ({ name, version: '1', resource: type.decode(bytes, name) }));
    type.apply({ set, removed: [] });
  };
  insert(resources);
  return { store, insert, remove: (removed: readonly string[]) => void type.apply({ set: [], removed }) };
}

const many = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));

/** An operation that is repeated; the number is how often it was done. */
type Work = (turn: number) => void | Promise<unknown>;

function insertAndRemove(resources: readonly Resource[], ...there: readonly Resource[]): Work {
  const { insert, remove } = mesh(...there);
  const names = resources.map(({ name }) => name);
  return () => {
    insert(resources);
    remove(names);
  };
}

/** Connections to a service of so many endpoints, each chosen; with `nearest` of those in the client's own zone. */
function loadBalance(endpoints: number, nearest: boolean): Work {
  const { REGION, ZONE } = LoadBalancing_Scope;
  const loadBalancing = { mode: LoadBalancing_Mode.FAILOVER, routingPreference: [REGION, ZONE] };
  const { store } = mesh(
    service(0, nearest ? { loadBalancing } : {}),
    ...many(endpoints, (index) => workload(index, behind(0))),
    workload(endpoints, { uid: CLIENT, locality: placeOf(0) }),
  );
  const balancer = new Balancer(store, new Ejections(systemClock, new Metrics()));
  const [client] = [...store.workloads.values()].filter(({ uid }) => uid === CLIENT);
  const to = store.services.get(namespacedHostname(NAMESPACE, hostOf(0)));
  if (!client || !to) throw new Error('the mesh of the benchmark is incomplete');
  const request = { service: to, port: 80, dialled: textOf(100, 0), source: client, random: Math.random, balancer };
  return () => {
    if (!pickEndpoint(store, request)) throw new Error('no endpoint of the benchmark is usable');
  };
}

/** Finding whose address is dialled, among so many services. */
function vipMatch(services: number, blocks: boolean): Work {
  const block = (index: number) => ({ addresses: [{ address: ip(100, index << 8), length: 24 }] });
  const { store } = mesh(...many(services, (index) => service(index, blocks ? block(index) : {})));
  return (turn) => {
    const index = turn % services;
    if (!store.services.byVip('', textOf(100, blocks ? (index << 8) + 1 : index), NAMESPACE)) throw new Error('no such service');
  };
}

/** A connection's labels found, and what it counts; with `encode` the page of so many of them. */
function metricsOf(connections: number, encode: boolean): Work {
  const metrics = new Metrics();
  const traffic = new TrafficMetrics(metrics);
  const peers = many(connections, (index) => ({ ...UNKNOWN_PEER, workload: `pod-${index}` }));
  const write = (turn: number): void => {
    const destination = peers[turn % connections] ?? UNKNOWN_PEER;
    const labels = { reporter: 'source', source: UNKNOWN_PEER, destination, service: undefined, mutualTls: true } as const;
    const cells = traffic.cells(labels);
    cells.opened();
    cells.received.value += 1;
    cells.sent.value += 1;
    cells.closed('-', false);
  };
  for (let turn = 0; turn < connections; turn++) write(turn);
  return encode ? () => metrics.render() : write;
}

/** By name: what is made ready, and then repeated. */
export const OPERATIONS: Readonly<Record<string, () => Work>> = {
  'xds insert and remove, 1000 workloads': () => insertAndRemove(many(1000, (index) => workload(index))),
  ...Object.fromEntries(
    [10, 1000, 10_000].flatMap((count) => [
      [`load balance, ${count} endpoints`, () => loadBalance(count, false)],
      [`load balance by locality, ${count} endpoints`, () => loadBalance(count, true)],
    ]),
  ),
  ...Object.fromEntries(
    [1, 100, 10_000].flatMap((count) => [
      [`vip match, ${count} addresses`, () => vipMatch(count, false)],
      [`vip match, ${count} blocks`, () => vipMatch(count, true)],
    ]),
  ),
  ...Object.fromEntries(
    [250, 1000, 4000].flatMap((count) => [
      [
        `endpoint insert, ${count} of one service`,
        () =>
          insertAndRemove(
            many(count, (i) => workload(i, behind(0))),
            service(0),
          ),
      ],
      [
        `endpoint insert, ${count} of a service each`,
        () =>
          insertAndRemove(
            many(count, (i) => workload(i, behind(i))),
            ...many(count, (i) => service(i)),
          ),
      ],
      [`endpoint insert, ${count} of services unknown`, () => insertAndRemove(many(count, (i) => workload(i, behind(i))))],
    ]),
  ),
  'metrics, a connection': () => metricsOf(1000, false),
  'metrics, a page of 1000 connections': () => metricsOf(1000, true),
};

/** us of this thread's CPU for one, the median of five stretches of `ms` after one that warms up. */
export async function measure(work: Work, ms: number): Promise<number> {
  const costs: number[] = [];
  for (let stretch = 0, turn = 0; stretch <= 5; stretch++) {
    const [from, first, before] = [performance.now(), turn, process.threadCpuUsage()];
    do {
      const done = work(turn++);
      if (done) await done;
    } while (performance.now() - from < ms);
    const { user, system } = process.threadCpuUsage(before);
    if (stretch > 0) costs.push((user + system) / (turn - first));
  }
  return median(costs) ?? NaN;
}

if (import.meta.main) {
  const [ms = 200] = process.argv.slice(2).map(Number);
  for (const [name, ready] of Object.entries(OPERATIONS)) {
    const cost = await measure(ready(), ms);
    process.stdout.write(`${name.padEnd(45)} ${cost.toFixed(1).padStart(10)} us\n`);
  }
}
