import t from 'tap';
import { MetricReports, takeReport } from '#shared/telemetry/metric-report.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';

function worker(): Metrics {
  const metrics = new Metrics();
  metrics.counter('bytes_total', 'Bytes', ['a', 'b']);
  metrics.gauge('open', 'Open', ['a'], (family) => {
    family.cell('x').value = 2;
  });
  return metrics;
}

t.test('counters of workers add up, gauges are summed over those that live', async (t) => {
  const main = new Metrics();
  const reports = new MetricReports(main);
  const workers = [worker(), worker()];
  const merge = (): void => workers.forEach((each, index) => reports.merge(index, structuredClone(takeReport(each))));
  for (const each of workers) each.counter('bytes_total', '').add(5, 'x', 'y');
  merge();
  merge();
  let { body } = await main.render();
  t.match(body, '# HELP bytes_total Bytes');
  t.match(body, /^bytes_total\{a="x",b="y"\} 10$/mu, 'told twice, counted once');
  t.match(body, /^open\{a="x"\} 4$/mu);
  workers[0]?.counter('bytes_total', '').add(1, 'x', 'y');
  merge();
  reports.forget(1);
  ({ body } = await main.render());
  t.match(body, /^bytes_total\{a="x",b="y"\} 11$/mu, 'what an ended worker counted stays');
  t.match(body, /^open\{a="x"\} 2$/mu, 'what it held does not');
});

t.test('the exposition waits for what is asked of other threads', async (t) => {
  const metrics = new Metrics();
  const family = metrics.counter('late_total', 'Late');
  metrics.beforeRender(async () => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    family.add(3);
  });
  t.match((await metrics.render()).body, /^late_total 3$/mu);
});
