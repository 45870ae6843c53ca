// Each bar of the benchmark as it was agreed: who moves one has to say so here.
import t from 'tap';
import { PEER_ROWS, ROWS } from '../../bench/path/bars.ts';
import type { RowSpec } from '../../bench/path/rows.ts';
import { WAYPOINT_ROWS } from '../../bench/waypoint/rows.ts';

function bars(rows: readonly RowSpec[]): Record<string, RowSpec['bar']> {
  return Object.fromEntries(rows.map(({ name, bar }) => [name, bar]));
}

t.test('ours', async (t) => {
  t.strictSame(bars(ROWS), {
    'hbone stream-1 against direct': { minTimes: 0.4, of: 'direct' },
    'hbone stream-1 cpu': { max: 1.6 },
    'hbone stream-8 against direct': { minTimes: 0.4, of: 'direct' },
    'hbone stream-8 cpu': { max: 1.6 },
    'hbone requests-16 against node:http2': { minTimes: 2.5, of: 'http2' },
    'hbone requests-16 cpu': { max: 20 },
    'hbone requests-64 against node:http2': { minTimes: 2.5, of: 'http2' },
    'hbone requests-64 cpu': { max: 20 },
    'hbone connections against node:http2': { minTimes: 4, of: 'http2' },
    'hbone connections cpu': { max: 100 },
    'hbone new-connection p50': { max: 300 },
    'hbone new-connection p99': { max: 800 },
    'same-node stream-1 against direct': { minTimes: 0.6, of: 'direct-near' },
    'same-node stream-1 cpu': { max: 0.55 },
    'same-node requests-16': { min: 60_000 },
    'passthrough stream-1 against direct': { minTimes: 0.7, of: 'direct' },
    'passthrough stream-1 cpu': { max: 0.5 },
    'passthrough new-connection p50': { max: 150 },
    'plaintext stream-1 against direct': { minTimes: 0.7, of: 'direct' },
    'plaintext stream-1 cpu': { max: 0.5 },
    'plaintext new-connection p50': { max: 150 },
    'stalled readers slowest probe': { max: 50 },
    'stalled readers held each': { max: 1 },
    'tls handshake cpu': { max: 1.2 },
    'tls handshake rate': { min: 700 },
    'memory idle ztunnel': { max: 70 },
    'memory idle tunnelled connection': { max: 3 },
    'memory tls connection': { max: 40 },
  });
});

t.test('beside another ztunnel', async (t) => {
  t.strictSame(bars(PEER_ROWS), {
    'hbone stream-1 against ztunnel': { peerMin: 1.4 },
    'hbone stream-8 against ztunnel': { peerMin: 1.4 },
    'hbone requests-16 against ztunnel': { peerMin: 1.8 },
    'hbone requests-64 against ztunnel': { peerMin: 1.8 },
    'hbone requests-16 cpu against ztunnel': { peerMax: 0.5 },
    'hbone requests-64 cpu against ztunnel': { peerMax: 0.5 },
    'hbone connections against ztunnel': { peerMin: 1.7 },
    'same-node stream-1 against ztunnel': { peerMin: 2 },
    'same-node requests-16 against ztunnel': { peerMin: 2 },
  });
});

t.test('the waypoint beside Envoy', async (t) => {
  t.strictSame(Object.fromEntries(WAYPOINT_ROWS.map(({ name, most }) => [name, most])), {
    'waypoint http/1.1 requests-64 cpu': 0.6,
    'waypoint hbone requests-64 cpu': 0.5,
    'waypoint grpc streams cpu': 0.6,
  });
});
