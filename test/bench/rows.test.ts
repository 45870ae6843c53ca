import t from 'tap';
import type { Sample } from '../../bench/path/loads.ts';
import { PEER_ROWS, ROWS } from '../../bench/path/bars.ts';
import { limitOf } from '../../bench/path/limits.ts';
import { exitCodeOf, keyOf, measurementsOf, rowOf } from '../../bench/path/rows.ts';
import type { RowSpec } from '../../bench/path/rows.ts';
import { formatRows, rowsSvg, shortNumber } from '../../bench/report.ts';

const against = (minTimes: number): RowSpec => ({
  name: 'hbone stream-1 against direct',
  route: 'hbone',
  load: 'stream-1',
  metric: 'gbps',
  bar: { minTimes, of: 'direct' },
});

const samples = new Map<string, Sample>([
  ['hbone stream-1 culvert', { gbps: 5, cpuPerGb: 1.2, cores: 1.9, threads: 2, user: 0.25, machine: 0.8 }],
  ['hbone stream-1 ztunnel', { gbps: 4, cpuPerGb: 2 }],
  ['direct stream-1 culvert', { gbps: 10 }],
]);

t.test('a row against the direct path', (t) => {
  t.same(rowOf(against(0.4), samples), {
    name: 'hbone stream-1 against direct',
    unit: 'Gbit/s',
    value: 5,
    peer: 'direct',
    peerValue: 10,
    bar: '>= 0.40 x peer',
    ok: true,
    beside: { direct: 10 },
    limit: `${limitOf('gbps', samples.get('hbone stream-1 culvert') ?? {})}; without a proxy 10`,
  });
  const short = rowOf(against(0.6), samples);
  t.equal(short?.ok, false);
  t.match(short?.limit, /all 2 threads that serve are at a full core/);
  t.end();
});

t.test('a row with a bar of its own shows the peer beside it', (t) => {
  const row = rowOf({ name: 'cpu', route: 'hbone', load: 'stream-1', metric: 'cpuPerGb', bar: { max: 1.2 } }, samples);
  t.match(row, { value: 1.2, peer: 'ztunnel', peerValue: 2, bar: '<= 1.2', ok: true });
  t.end();
});

t.test('what was not measured gives no row', (t) => {
  t.equal(rowOf({ ...against(0.4), route: 'plaintext' }, samples), undefined);
  t.equal(rowOf({ ...against(0.4), load: 'stream-8' }, samples), undefined);
  t.equal(rowOf({ ...against(0.4), bar: { minTimes: 2, of: 'http2' } }, samples), undefined);
  t.end();
});

t.test('what a way without our proxies has stands beside the row, and among what limits it', (t) => {
  const beside = new Map([...samples, ['nginx-pair stream-1 culvert', { gbps: 8, cpuPerGb: 0.9 }]]);
  const rate = rowOf(against(0.4), beside);
  t.same(rate?.beside, { direct: 10, 'nginx-pair': 8 });
  t.match(rate?.limit, /; without a proxy 10; through two TCP proxies that only copy \(nginx\) 8$/);
  const cpu = rowOf({ ...against(0.4), metric: 'cpuPerGb', bar: { max: 1 } }, beside);
  t.same(cpu?.beside, { 'nginx-pair': 0.9 }, 'who has no proxy spends nothing on it');
  const routes = (spec: RowSpec): string[] => measurementsOf([spec], false).map(({ route }) => route);
  t.same(routes(against(0.4)), ['direct', 'hbone', 'nginx-pair']);
  t.same(routes({ ...against(0.4), route: 'plaintext', metric: 'p50', bar: { max: 1 } }), ['plaintext', 'direct', 'nginx']);
  t.same(
    routes({ ...against(0.4), load: 'stalled', metric: 'worst', bar: { max: 1 } }),
    ['hbone'],
    'not of what no traffic measures',
  );
  t.end();
});

t.test('bars against a peer', (t) => {
  const spec = (bar: RowSpec['bar']): RowSpec => ({ ...against(1), bar });
  t.match(rowOf(spec({ peerMin: 1.25 }), samples), { peer: 'ztunnel', ok: true });
  t.match(rowOf(spec({ peerMin: 1.4 }), samples), { peer: 'ztunnel', ok: false });
  t.match(rowOf(spec({ peerMax: 1.25 }), samples), { ok: true });
  t.match(rowOf(spec({ peerMax: 1 }), samples), { ok: false });
  t.end();
});

t.test('each thing is measured once; a peer where we are', (t) => {
  const keys = measurementsOf([...ROWS, ...PEER_ROWS], true).map(keyOf);
  t.equal(new Set(keys).size, keys.length);
  t.ok(keys.includes('direct stream-1 culvert'));
  t.ok(keys.includes('hbone requests-16 ztunnel'));
  t.notOk(keys.includes('direct stream-1 ztunnel'));
  t.notOk(measurementsOf(ROWS, false).some(({ subject }) => subject === 'ztunnel'));
  t.end();
});

t.test('names of rows are unique', (t) => {
  const names = [...ROWS, ...PEER_ROWS].map(({ name }) => name);
  t.equal(new Set(names).size, names.length);
  t.end();
});

t.test('the table and the picture', (t) => {
  const rows = [rowOf(against(0.4), samples), rowOf(against(0.6), samples)].filter((row) => row !== undefined);
  const table = formatRows(rows);
  t.match(table, /direct 10 +0\.50 +>= 0\.60 x peer +NO/);
  t.match(table, /2 rows, 1 short of their bar/);
  t.match(formatRows(rows.slice(0, 1)), /1 rows, all at their bar/);
  t.notMatch(table, /on in both/, 'where rows have nothing of their own to say');
  const noted = rows.map((row) => ({ ...row, on: 'access log' }));
  for (const some of [noted, noted.slice(0, 1)])
    t.match(
      formatRows(some),
      /\n\non in both:\n {2}hbone stream-1 against direct: access log\n/,
      'what is on stands with its row',
    );
  const svg = rowsSvg(rows, 'a < b & c');
  t.match(svg, /^<svg /);
  t.match(svg, /a &lt; b &amp; c/);
  t.equal(svg.match(/<rect /g)?.length, 5);
  t.equal(shortNumber(12_345.6), '12346');
  t.equal(shortNumber(0.123_45), '0.123');
  t.end();
});

t.test('the exit code: 0 only when every wanted row is there and at its bar', (t) => {
  const rows = [rowOf(against(0.4), samples), rowOf(against(0.6), samples)].filter((row) => row !== undefined);
  t.equal(exitCodeOf(rows.slice(0, 1), 1), 0);
  t.equal(exitCodeOf(rows, 2), 1, 'one is short');
  t.equal(exitCodeOf(rows.slice(0, 1), 2), 1, 'one is missing');
  t.equal(exitCodeOf([], 0), 0);
  t.end();
});
