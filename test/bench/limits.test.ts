import t from 'tap';
import { ROWS } from '../../bench/path/bars.ts';
import { limitOf } from '../../bench/path/limits.ts';
import { threadsOn } from '../../bench/path/paths.ts';
import { measurementsOf, rowOf } from '../../bench/path/rows.ts';
import type { RowSpec } from '../../bench/path/rows.ts';
import { describeSubject, servingThreads, ztunnelOf } from '../../bench/path/subjects.ts';
import { formatRows } from '../../bench/report.ts';

t.test('each kind of row says what limits it', (t) => {
  t.match(limitOf('rps', { cores: 1, user: 0.5, machine: 0.99 }), /^CPU of the machine: it had none left/);
  t.match(
    limitOf('gbps', { cores: 1.9, threads: 2, user: 0.25, machine: 0.9 }),
    /^CPU of the proxies: all 2 threads that serve are at a full core.*25 % of it in user mode/,
  );
  t.match(
    limitOf('rps', { rps: 1000, cores: 0.5, others: 1.5, user: 0.5, machine: 1 }),
    /used 1\.50, so that with proxies that cost nothing it were 1333$/,
  );
  t.match(limitOf('gbps', { gbps: 5, cores: 1, others: 1, machine: 1 }), /it were 10\.0$/);
  t.notMatch(limitOf('rps', { rps: 1000, cores: 0.5, others: 0.5, machine: 0.5 }), /cost nothing/);
  t.match(limitOf('p50', { cores: 0.3, user: 0.5, machine: 0.4 }), /waiting: the machine was 40 % busy/);
  t.match(
    limitOf('worst', { worstKept: 12, worstNew: 71.25, failures: 2, requests: 900 }),
    /^waiting: .*new one 71\.3 ms; 2 of 900 requests/,
  );
  t.match(limitOf('held', { taken: 6.5 }), /6\.5 MiB before it was blocked/);
  t.match(limitOf('idle', { idle: 60, idleAnonymous: 41 }), /^heap: 41\.0 MB of it anonymous/);
  t.match(limitOf('idle', { idle: 60, idleAnonymous: 20 }), /^mapped files: /);
  t.match(limitOf('perConnection', { outboundEnd: 2, inboundEnd: 3 }), /2\.0 KB at the client's end, 3\.0 KB/);
  for (const metric of ['perEndpoint', 'cpuPerPair', 'perSecond'] as const) t.not(limitOf(metric, {}), '');
  t.end();
});

t.test('a full core is counted by the threads that serve, not by the processes', (t) => {
  const limit = (cores: number, threads: number): string => limitOf('rps', { cores, threads, user: 0.5, machine: 0.9 });
  t.match(limit(0.9, 1), /^CPU of the proxies: the thread that serves is at a full core/, 'a waypoint');
  t.match(limit(1.9, 4), /^waiting: /, 'two ztunnels of two workers each have two more cores to use');
  t.match(limit(3.6, 4), /^CPU of the proxies: all 4 threads/);
  t.match(limit(0, 0), /^waiting: /, 'without a proxy');
  t.equal(threadsOn('hbone', 2), 4);
  t.equal(threadsOn('same-node', 2), 2);
  t.equal(threadsOn('http2', 2), 2);
  t.equal(threadsOn('direct', 2), 0);
  t.equal(servingThreads({ workers: 'main' }), 1);
  t.equal(servingThreads({ workers: '3' }), 3);
  t.end();
});

t.test('a row at its bar names what limits it, and so does one that failed', (t) => {
  const spec: RowSpec = { name: 'x', route: 'hbone', load: 'requests-16', metric: 'rps', bar: { min: 10 } };
  const sample = { rps: 20, cores: 1.9, threads: 2, user: 0.5, machine: 0.9 };
  const good = rowOf(spec, new Map([['hbone requests-16 culvert', sample]]));
  t.match(good, { ok: true, limit: /^CPU of the proxies: / });
  t.match(rowOf(spec, new Map(), new Map([['hbone requests-16 culvert', 'no lab']])), { limit: 'not measured', error: 'no lab' });
  t.match(formatRows(good ? [good] : []), /LIMIT\n.* yes +CPU of the proxies\n/, 'the table shows it');
  t.end();
});

t.test('rows of memory, stalled readers and handshakes', (t) => {
  const named = (name: string): RowSpec[] => ROWS.filter((row) => row.name === name);
  const samples = new Map([
    ['hbone stalled culvert', { worst: 20, held: 0.5 }],
    ['hbone stalled ztunnel', { worst: 5000, held: 1.2 }],
    ['hbone idle culvert', { idle: 71, idleAnonymous: 40, perConnection: 2 }],
    ['tls handshake culvert', { cpuPerPair: 1.1, perSecond: 650 }],
    ['tls held culvert', { perEndpoint: 32 }],
  ]);
  const row = (name: string): unknown => named(name).map((spec) => rowOf(spec, samples))[0];
  t.match(row('stalled readers slowest probe'), {
    value: 20,
    unit: 'ms',
    peer: 'ztunnel',
    peerValue: 5000,
    bar: '<= 50',
    ok: true,
  });
  t.match(row('stalled readers held each'), { value: 0.5, unit: 'MiB', ok: true });
  t.match(row('memory idle ztunnel'), { value: 71, unit: 'MB', ok: false, limit: /40\.0 MB/ });
  t.match(row('memory idle tunnelled connection'), { value: 2, unit: 'KB', ok: true });
  t.match(row('tls handshake cpu'), { value: 1.1, unit: 'CPU ms', ok: true });
  t.match(row('tls handshake rate'), { value: 650, unit: '1/s', ok: false });
  t.match(row('memory tls connection'), { value: 32, unit: 'KB', ok: true });
  t.end();
});

t.test('a peer is not asked for handshakes in our process', (t) => {
  const peers = measurementsOf(ROWS, true).filter(({ subject }) => subject === 'ztunnel');
  t.notOk(peers.some(({ route }) => route === 'tls'));
  t.ok(peers.some(({ load }) => load === 'idle'));
  t.end();
});

t.test('how each subject is started, and told of', (t) => {
  const options = { backend: 'native', workers: '2', peerZtunnel: '/bin/other' } as const;
  t.same(ztunnelOf('culvert', options), { env: { CULVERT_BACKEND: 'native', ZTUNNEL_WORKER_THREADS: '2' } });
  t.match(ztunnelOf('ztunnel', options), { argv: ['/bin/other'] });
  t.notOk(
    'ZTUNNEL_WORKER_THREADS' in (ztunnelOf('ztunnel', options).env ?? {}),
    'a peer has the threads that it takes by itself',
  );
  t.match(describeSubject(options), /native backend.*2 workers/);
  t.match(describeSubject({ ...options, workers: '1' }), /one worker/);
  t.match(describeSubject({ backend: 'portable', workers: 'main' }), /portable backend.*main thread/);
  t.end();
});
