import { test } from 'tap';
import { Metrics } from '#shared/telemetry/metrics.ts';

test('a distribution is rendered as a histogram in both formats', async (t) => {
  const metrics = new Metrics();
  const distribution = metrics.distribution('took_milliseconds', 'Time', ['code'], [1, 10]);
  t.equal(metrics.distribution('took_milliseconds', 'Time', ['code'], [1, 10]), distribution);
  const cell = distribution.cell('200');
  for (const value of [0.5, 1, 5, 50]) cell.observe(value);
  t.equal(distribution.cell('200'), cell);
  for (const accept of ['', 'application/openmetrics-text']) {
    const { body } = await metrics.render(accept);
    t.match(body, /# TYPE took_milliseconds histogram/u);
    t.match(body, 'took_milliseconds_bucket{le="1",code="200"} 2');
    t.match(body, 'took_milliseconds_bucket{le="10",code="200"} 3');
    t.match(body, 'took_milliseconds_bucket{le="+Inf",code="200"} 4');
    t.match(body, 'took_milliseconds_sum{code="200"} 56.5');
    t.match(body, 'took_milliseconds_count{code="200"} 4');
  }
});
