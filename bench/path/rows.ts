// The rows of the path benchmark: what is measured where, and the bar of each. Pure: medians to rows.
import type { Load, Sample } from './loads.ts';

/** A way through the lab. `direct*` pass no proxy; `http2` a pair of proxies over node:http2; the others our ztunnels or a peer's. */
export const ROUTES = ['hbone', 'same-node', 'passthrough', 'plaintext', 'direct', 'direct-near', 'http2'] as const;
export type Route = (typeof ROUTES)[number];
export type Subject = 'culvert' | 'ztunnel';

export interface Measurement {
  readonly route: Route;
  readonly load: Load;
  readonly subject: Subject;
}

export interface Row {
  name: string;
  unit: string;
  value: number;
  peer?: string;
  peerValue?: number;
  bar: string;
  ok: boolean;
  /** What kept it from its bar. */
  limit?: string;
}

type Metric = 'gbps' | 'cpuPerGb' | 'rps' | 'cpuPerRequest' | 'p50' | 'p99';

/** `times`: at least (min) or at most (max) so many times what the peer has. */
type Bar =
  | { readonly max: number }
  | { readonly min: number }
  | { readonly minTimes: number; readonly of: Route }
  | { readonly peerMin: number }
  | { readonly peerMax: number };

export interface RowSpec {
  readonly name: string;
  readonly route: Route;
  readonly load: Load;
  readonly metric: Metric;
  readonly bar: Bar;
}

const UNITS: Record<Metric, string> = {
  gbps: 'Gbit/s',
  cpuPerGb: 'CPU s/GB',
  rps: '1/s',
  cpuPerRequest: 'CPU us',
  p50: 'us',
  p99: 'us',
};

/** Issue "The native data plane", table of bars. */
export const ROWS: readonly RowSpec[] = [
  ...(['stream-1', 'stream-8'] as const).flatMap((load): RowSpec[] => [
    { name: `hbone ${load} against direct`, route: 'hbone', load, metric: 'gbps', bar: { minTimes: 0.4, of: 'direct' } },
    { name: `hbone ${load} cpu`, route: 'hbone', load, metric: 'cpuPerGb', bar: { max: 1.6 } },
  ]),
  ...(['requests-16', 'requests-64'] as const).flatMap((load): RowSpec[] => [
    { name: `hbone ${load} against node:http2`, route: 'hbone', load, metric: 'rps', bar: { minTimes: 2.5, of: 'http2' } },
    { name: `hbone ${load} cpu`, route: 'hbone', load, metric: 'cpuPerRequest', bar: { max: 20 } },
  ]),
  {
    name: 'hbone connections against node:http2',
    route: 'hbone',
    load: 'connections',
    metric: 'rps',
    bar: { minTimes: 4, of: 'http2' },
  },
  { name: 'hbone connections cpu', route: 'hbone', load: 'connections', metric: 'cpuPerRequest', bar: { max: 100 } },
  { name: 'hbone new-connection p50', route: 'hbone', load: 'new-connection', metric: 'p50', bar: { max: 300 } },
  { name: 'hbone new-connection p99', route: 'hbone', load: 'new-connection', metric: 'p99', bar: { max: 800 } },
  {
    name: 'same-node stream-1 against direct',
    route: 'same-node',
    load: 'stream-1',
    metric: 'gbps',
    bar: { minTimes: 0.6, of: 'direct-near' },
  },
  { name: 'same-node stream-1 cpu', route: 'same-node', load: 'stream-1', metric: 'cpuPerGb', bar: { max: 0.55 } },
  { name: 'same-node requests-16', route: 'same-node', load: 'requests-16', metric: 'rps', bar: { min: 60_000 } },
  ...(['passthrough', 'plaintext'] as const).flatMap((route): RowSpec[] => [
    { name: `${route} stream-1 against direct`, route, load: 'stream-1', metric: 'gbps', bar: { minTimes: 0.7, of: 'direct' } },
    { name: `${route} stream-1 cpu`, route, load: 'stream-1', metric: 'cpuPerGb', bar: { max: 0.5 } },
    { name: `${route} new-connection p50`, route, load: 'new-connection', metric: 'p50', bar: { max: 150 } },
  ]),
];

/** Beside another ztunnel. */
export const PEER_ROWS: readonly RowSpec[] = [
  peerRow('hbone', 'stream-1', 'gbps', { peerMin: 1.4 }),
  peerRow('hbone', 'stream-8', 'gbps', { peerMin: 1.4 }),
  peerRow('hbone', 'requests-16', 'rps', { peerMin: 1.8 }),
  peerRow('hbone', 'requests-64', 'rps', { peerMin: 1.8 }),
  peerRow('hbone', 'requests-16', 'cpuPerRequest', { peerMax: 0.5 }),
  peerRow('hbone', 'connections', 'rps', { peerMin: 1.7 }),
  peerRow('same-node', 'stream-1', 'gbps', { peerMin: 2 }),
  peerRow('same-node', 'requests-16', 'rps', { peerMin: 2 }),
];

function peerRow(route: Route, load: Load, metric: Metric, bar: Bar): RowSpec {
  return { name: `${route} ${load} ${metric === 'cpuPerRequest' ? 'cpu ' : ''}against ztunnel`, route, load, metric, bar };
}

/** What must be measured for these rows; each once. With a peer, it is measured wherever we are. */
export function measurementsOf(specs: readonly RowSpec[], withPeer: boolean): Measurement[] {
  const wanted = specs.flatMap(({ route, load, bar }): Measurement[] => [
    ...('of' in bar ? [{ route: bar.of, load, subject: 'culvert' as const }] : []),
    { route, load, subject: 'culvert' },
    ...(withPeer ? [{ route, load, subject: 'ztunnel' as const }] : []),
  ]);
  return [...new Map(wanted.map((one) => [keyOf(one), one])).values()];
}

export function keyOf({ route, load, subject }: Measurement): string {
  return `${route} ${load} ${subject}`;
}

/** The row, or undefined when one of its numbers was not measured. `samples` has the medians by key. */
export function rowOf(spec: RowSpec, samples: ReadonlyMap<string, Sample>): Row | undefined {
  const { name, route, load, metric, bar } = spec;
  const own = samples.get(keyOf({ route, load, subject: 'culvert' }));
  const peer = peerOf(spec, samples);
  const value = own?.[metric];
  if (!own || value === undefined) return undefined;
  const verdict = judge(value, bar, peer?.value);
  if (!verdict) return undefined;
  return {
    name,
    unit: UNITS[metric],
    value,
    ...(peer && { peer: peer.name, peerValue: peer.value }),
    ...verdict,
    ...(!verdict.ok && { limit: limitOf(own) }),
  };
}

function peerOf(
  { route, load, metric, bar }: RowSpec,
  samples: ReadonlyMap<string, Sample>,
): { name: string; value: number } | undefined {
  const beside =
    'of' in bar ? { route: bar.of, load, subject: 'culvert' as const } : { route, load, subject: 'ztunnel' as const };
  const value = samples.get(keyOf(beside))?.[metric];
  return value === undefined ? undefined : { name: 'of' in bar ? bar.of : 'ztunnel', value };
}

function judge(value: number, bar: Bar, peer: number | undefined): { bar: string; ok: boolean } | undefined {
  if ('max' in bar) return { bar: `<= ${bar.max}`, ok: value <= bar.max };
  if ('min' in bar) return { bar: `>= ${bar.min}`, ok: value >= bar.min };
  if (peer === undefined) return undefined;
  if ('peerMax' in bar) return { bar: `<= ${bar.peerMax.toFixed(2)} x peer`, ok: value <= bar.peerMax * peer };
  const times = 'peerMin' in bar ? bar.peerMin : bar.minTimes;
  return { bar: `>= ${times.toFixed(2)} x peer`, ok: value >= times * peer };
}

/** Where the CPU went while it was measured. */
export function limitOf({ cores = 0, user = 0, machine = 0 }: Sample): string {
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const proxies = `proxies used ${cores.toFixed(2)} cores, ${percent(user)} of it in user mode, ${percent(1 - user)} in the kernel`;
  if (machine > 0.95) return `CPU: the machine had none left; ${proxies}`;
  if (cores > 1.7) return `CPU: both proxies at one full core; ${proxies}`;
  return `waiting: the machine was ${percent(machine)} busy; ${proxies}`;
}
