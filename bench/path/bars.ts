// The bars of the path benchmark: what is measured where, and what must come out.
import type { Load } from './loads.ts';
import type { Bar, Metric, Route, RowSpec } from './rows.ts';

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
  { name: 'stalled readers slowest probe', route: 'hbone', load: 'stalled', metric: 'worst', bar: { max: 50 } },
  { name: 'stalled readers held each', route: 'hbone', load: 'stalled', metric: 'held', bar: { max: 1 } },
  { name: 'tls handshake cpu', route: 'tls', load: 'handshake', metric: 'cpuPerPair', bar: { max: 1.2 } },
  { name: 'tls handshake rate', route: 'tls', load: 'handshake', metric: 'perSecond', bar: { min: 700 } },
  { name: 'memory idle ztunnel', route: 'hbone', load: 'idle', metric: 'idle', bar: { max: 70 } },
  { name: 'memory idle tunnelled connection', route: 'hbone', load: 'idle', metric: 'perConnection', bar: { max: 3 } },
  { name: 'memory tls connection', route: 'tls', load: 'held', metric: 'perEndpoint', bar: { max: 40 } },
];

/** Beside another ztunnel. */
export const PEER_ROWS: readonly RowSpec[] = [
  peerRow('hbone', 'stream-1', 'gbps', { peerMin: 1.4 }),
  peerRow('hbone', 'stream-8', 'gbps', { peerMin: 1.4 }),
  peerRow('hbone', 'requests-16', 'rps', { peerMin: 1.8 }),
  peerRow('hbone', 'requests-64', 'rps', { peerMin: 1.8 }),
  peerRow('hbone', 'requests-16', 'cpuPerRequest', { peerMax: 0.5 }),
  peerRow('hbone', 'requests-64', 'cpuPerRequest', { peerMax: 0.5 }),
  peerRow('hbone', 'connections', 'rps', { peerMin: 1.7 }),
  peerRow('same-node', 'stream-1', 'gbps', { peerMin: 2 }),
  peerRow('same-node', 'requests-16', 'rps', { peerMin: 2 }),
];

function peerRow(route: Route, load: Load, metric: Metric, bar: Bar): RowSpec {
  return { name: `${route} ${load} ${metric === 'cpuPerRequest' ? 'cpu ' : ''}against ztunnel`, route, load, metric, bar };
}
