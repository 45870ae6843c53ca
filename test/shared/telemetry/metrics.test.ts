import t from 'tap';
import { MAX_LABEL_SETS } from '#shared/telemetry/label-sets.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { processMetrics } from '#shared/telemetry/process-metrics.ts';

const OPEN = 'application/openmetrics-text; version=1.0.0,text/plain;q=0.5';

t.test('a counter is one cell per label set, and appears when touched', async (t) => {
  const metrics = new Metrics();
  const opened = metrics.counter('istio_tcp_connections_opened_total', 'Connections opened', ['reporter', 'peer']);
  t.equal(
    (await metrics.render()).body.trim(),
    '# HELP istio_tcp_connections_opened_total Connections opened\n# TYPE istio_tcp_connections_opened_total counter',
  );
  const cell = opened.cell('source', 'say "hi"\n\\');
  cell.value += 2;
  t.equal(opened.cell('source', 'say "hi"\n\\'), cell);
  opened.add(1, 'destination');
  const { body, type } = await metrics.render('text/plain');
  t.match(type, /^text\/plain; version=0.0.4/u);
  t.match(body, 'istio_tcp_connections_opened_total{reporter="source",peer="say \\"hi\\"\\n\\\\"} 2\n');
  t.match(body, 'istio_tcp_connections_opened_total{reporter="destination",peer="unknown"} 1\n');
  t.equal(metrics.counter('istio_tcp_connections_opened_total', ''), opened);
});

t.test('OpenMetrics for those who ask, the same twice', async (t) => {
  const metrics = new Metrics();
  metrics.counter('a_total', 'A').cell().value = 3;
  metrics.gauge('b', 'B', ['x']).cell('1').value = 1.5;
  metrics.histogram('c_seconds', 'C', ['q'], [0.1, 1]).observe({ q: 'A' }, 0.5);
  for (let i = 0; i < 2; i += 1) {
    const { body, type } = await metrics.render(OPEN);
    t.match(type, /^application\/openmetrics-text; version=1.0.0/u);
    t.equal(
      body,
      '# HELP a A\n# TYPE a counter\na_total 3\n# HELP b B\n# TYPE b gauge\nb{x="1"} 1.5\n' +
        '# HELP c_seconds C\n# TYPE c_seconds histogram\nc_seconds_bucket{le="0.1",q="A"} 0\nc_seconds_bucket{le="1",q="A"} 1\n' +
        'c_seconds_bucket{le="+Inf",q="A"} 1\nc_seconds_sum{q="A"} 0.5\nc_seconds_count{q="A"} 1\n# EOF\n',
    );
    t.match((await metrics.render()).body, /^a_total 3$/mu);
  }
});

t.test('a component may keep its names without _total', async (t) => {
  const metrics = new Metrics({ openMetrics: false });
  metrics.counter('citadel_server_csr_count', 'Requests').cell().value = 1;
  t.match((await metrics.render(OPEN)).body, /^citadel_server_csr_count 1$/mu);
});

t.test('gauges collected when read; what is gone goes away', async (t) => {
  const metrics = new Metrics();
  let live = ['a', 'b'];
  metrics.gauge('open', 'Open', ['name'], (family) => {
    family.clear();
    for (const name of live) family.cell(name).value = 1;
  });
  t.match((await metrics.render()).body, /open\{name="a"\} 1\nopen\{name="b"\} 1/u);
  live = ['b'];
  t.notMatch((await metrics.render()).body, /name="a"/u);
  const kept = metrics.gauge('kept', 'Kept', ['x', 'y']);
  kept.add(1, '1', '2');
  kept.remove('1', '2');
  t.notMatch((await metrics.render()).body, /kept\{/u);
});

t.test('a process tells about itself', async (t) => {
  const metrics = new Metrics();
  processMetrics(metrics);
  const { body } = await metrics.render();
  for (const name of [
    'process_open_fds',
    'process_max_fds',
    'process_resident_memory_bytes',
    'process_cpu_seconds_total',
    'process_start_time_seconds',
  ])
    t.match(body, new RegExp(`^${name} [\\d.]+$`, 'mu'), name);
});

t.test('label sets without end are counted together beyond a limit', async (t) => {
  const metrics = new Metrics();
  const family = metrics.counter('peers_total', 'Peers', ['peer', 'flag']);
  const distribution = metrics.distribution('peer_ms', 'Peers', ['peer'], [1]);
  for (let i = 0; i < MAX_LABEL_SETS + 50; i++) {
    family.add(1, `peer-${i}`, '-');
    distribution.cell(`peer-${i}`).observe(1);
  }
  t.equal(family.samples().length, MAX_LABEL_SETS + 1);
  t.match(family.samples().at(-1), { labels: { peer: 'overflow', flag: 'overflow' }, value: 50 });
  family.add(1, 'peer-0', '-');
  t.match(family.samples()[0], { labels: { peer: 'peer-0' }, value: 2 }, 'what was there before goes on');
  t.match(distribution.samples().at(-1), { metricName: 'peer_ms_count', labels: { peer: 'overflow' }, value: 50 });
});
