// The rows of the path benchmark: what is measured where, and the bar of each. Pure: medians to rows.
import { limitOf } from './limits.ts';
import type { Sample } from '../measured.ts';
import type { Load } from './loads.ts';

/**
 * A way through the lab. `direct*` pass no proxy; `http2` a pair of proxies over node:http2; `nginx*` TCP proxies that only copy (nginx-peer.ts); `tls` needs
 * no lab; the others pass our ztunnels or a peer's.
 */
export type Route =
  | 'hbone'
  | 'same-node'
  | 'passthrough'
  | 'plaintext'
  | 'direct'
  | 'direct-near'
  | 'http2'
  | 'nginx-pair'
  | 'nginx'
  | 'nginx-near'
  | 'tls';
export type Subject = 'culvert' | 'ztunnel';

export interface Measurement {
  readonly route: Route;
  readonly load: Load;
  readonly subject: Subject;
}

export interface Row {
  name: string;
  unit: string;
  /** Null: it could not be measured. */
  value: number | null;
  peer?: string;
  peerValue?: number;
  bar: string;
  ok: boolean;
  /** What the same traffic has on this machine without a proxy, and through as many TCP proxies that only copy; by route. */
  beside?: Readonly<Record<string, number>>;
  /** What keeps it from being better; a row at its bar has one too. */
  limit: string;
  /** What is on while it is measured, where that is not what the documentation says of all rows. */
  on?: string;
  /** Why it could not be measured. */
  error?: string;
}

/** A field of a sample. */
export type Metric = keyof typeof UNITS;

/** `times`: at least (min) or at most (max) so many times what the peer has. */
export type Bar =
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

const UNITS = {
  gbps: 'Gbit/s',
  cpuPerGb: 'CPU s/GB',
  rps: '1/s',
  cpuPerRequest: 'CPU us',
  p50: 'us',
  p99: 'us',
  worst: 'ms',
  held: 'MiB',
  idle: 'MB',
  perConnection: 'KB',
  cpuPerPair: 'CPU ms',
  perSecond: '1/s',
  perEndpoint: 'KB',
} as const;

/** The same way without a proxy, and through as many that only copy. */
const BESIDE: Partial<Record<Route, readonly [direct: Route, copied: Route]>> = {
  hbone: ['direct', 'nginx-pair'],
  'same-node': ['direct-near', 'nginx-near'],
  passthrough: ['direct', 'nginx'],
  plaintext: ['direct', 'nginx'],
};
/** Of proxies: who has none spends nothing. */
const OF_PROXIES: ReadonlySet<Metric> = new Set(['cpuPerGb', 'cpuPerRequest']);
const OF_TRAFFIC: ReadonlySet<Metric> = new Set([...OF_PROXIES, 'gbps', 'rps', 'p50', 'p99']);

function routesBeside({ route, metric }: RowSpec): readonly Route[] {
  const routes = OF_TRAFFIC.has(metric) ? (BESIDE[route] ?? []) : [];
  return OF_PROXIES.has(metric) ? routes.slice(1) : routes;
}

/** What must be measured for these rows; each once. With a peer, it is measured wherever our ztunnels are. */
export function measurementsOf(specs: readonly RowSpec[], withPeer: boolean): Measurement[] {
  const wanted = specs.flatMap((spec): Measurement[] => {
    const { route, load, bar } = spec;
    return [
      ...('of' in bar ? [{ route: bar.of, load, subject: 'culvert' as const }] : []),
      { route, load, subject: 'culvert' },
      ...(withPeer && route !== 'tls' ? [{ route, load, subject: 'ztunnel' as const }] : []),
      ...routesBeside(spec).map((beside) => ({ route: beside, load, subject: 'culvert' as const })),
    ];
  });
  return [...new Map(wanted.map((one) => [keyOf(one), one])).values()];
}

export function keyOf({ route, load, subject }: Measurement): string {
  return `${route} ${load} ${subject}`;
}

/** The limit of a row that has an error instead. */
export const NOT_MEASURED = 'not measured';
const NO_FAULTS: ReadonlyMap<string, string> = new Map();

/** The row, or undefined when one of its numbers was not to be measured. `samples` has the medians by key, `faults` why others failed. */
export function rowOf(
  spec: RowSpec,
  samples: ReadonlyMap<string, Sample>,
  faults: ReadonlyMap<string, string> = NO_FAULTS,
): Row | undefined {
  const { name, route, load, metric, bar } = spec;
  const key = keyOf({ route, load, subject: 'culvert' });
  const error = faults.get(key) ?? ('max' in bar || 'min' in bar ? undefined : faults.get(keyBeside(spec)));
  const own = samples.get(key);
  if (error !== undefined)
    return {
      name,
      unit: UNITS[metric],
      value: own?.[metric] ?? null,
      bar: describeBar(bar),
      ok: false,
      limit: NOT_MEASURED,
      error,
    };
  const peer = peerOf(spec, samples);
  const value = own?.[metric];
  if (!own || value === undefined) return undefined;
  const beside = besideOf(spec, samples);
  const ok = judge(value, bar, peer?.value);
  if (ok === undefined) return undefined;
  return {
    name,
    unit: UNITS[metric],
    value,
    ...(peer && { peer: peer.name, peerValue: peer.value }),
    bar: describeBar(bar),
    ok,
    ...(Object.keys(beside).length > 0 && { beside }),
    limit: `${limitOf(metric, own)}${describeBeside(beside)}`,
  };
}

function besideOf(spec: RowSpec, samples: ReadonlyMap<string, Sample>): Record<string, number> {
  const found = routesBeside(spec).flatMap((route) => {
    const value = samples.get(keyOf({ ...spec, route, subject: 'culvert' }))?.[spec.metric];
    return value === undefined ? [] : [[route, value] as const];
  });
  return Object.fromEntries(found);
}

const COPIED: Readonly<Record<string, string>> = {
  direct: 'without a proxy',
  'direct-near': 'without a proxy',
  'nginx-pair': 'through two TCP proxies that only copy (nginx)',
  nginx: 'through one TCP proxy that only copies (nginx)',
  'nginx-near': 'through one TCP proxy that only copies (nginx)',
};

function describeBeside(beside: Readonly<Record<string, number>>): string {
  return Object.entries(beside)
    .map(([route, value]) => `; ${COPIED[route] ?? route} ${value < 100 ? Number(value.toPrecision(3)) : Math.round(value)}`)
    .join('');
}

/** Of what it is compared with. */
function keyBeside({ route, load, bar }: RowSpec): string {
  return keyOf('of' in bar ? { route: bar.of, load, subject: 'culvert' } : { route, load, subject: 'ztunnel' });
}

function peerOf(spec: RowSpec, samples: ReadonlyMap<string, Sample>): { name: string; value: number } | undefined {
  const value = samples.get(keyBeside(spec))?.[spec.metric];
  return value === undefined ? undefined : { name: 'of' in spec.bar ? spec.bar.of : 'ztunnel', value };
}

function describeBar(bar: Bar): string {
  if ('max' in bar) return `<= ${bar.max}`;
  if ('min' in bar) return `>= ${bar.min}`;
  if ('peerMax' in bar) return `<= ${bar.peerMax.toFixed(2)} x peer`;
  return `>= ${('peerMin' in bar ? bar.peerMin : bar.minTimes).toFixed(2)} x peer`;
}

/** Undefined: there is no peer to compare with. */
function judge(value: number, bar: Bar, peer: number | undefined): boolean | undefined {
  if ('max' in bar) return value <= bar.max;
  if ('min' in bar) return value >= bar.min;
  if (peer === undefined) return undefined;
  if ('peerMax' in bar) return value <= bar.peerMax * peer;
  return value >= ('peerMin' in bar ? bar.peerMin : bar.minTimes) * peer;
}

/** Of a run in which so many rows were wanted: 0 only when each of them is there and at its bar. */
export function exitCodeOf(rows: readonly Row[], wanted: number): 0 | 1 {
  return rows.length < wanted || rows.some(({ ok }) => !ok) ? 1 : 0;
}
