// One measurement that fails costs its own rows: the others keep their numbers, and the run says so.
import t from 'tap';
import { PEER_ROWS, ROWS } from '../../bench/path/bars.ts';
import { Measured } from '../../bench/measured.ts';
import { keyOf, measurementsOf, rowOf } from '../../bench/path/rows.ts';
import { formatRows, rowsSvg } from '../../bench/report.ts';

function start(): { measured: Measured; said: string[]; stop: AbortController } {
  const said: string[] = [];
  const stop = new AbortController();
  return { measured: new Measured({ progress: (line) => said.push(line), signal: stop.signal }), said, stop };
}

t.test('what was measured beside a failure stays, and the failure is not repeated', async (t) => {
  const { measured, said } = start();
  let tries = 0;
  const fails = async (): Promise<never> => {
    tries++;
    throw new Error('48 of 15440 requests failed');
  };
  for (const when of [undefined, 'round 1', 'round 2']) {
    await measured.take('a', when, async () => ({ rps: when === 'round 2' ? 30 : 10 }));
    await measured.take('b', when, fails);
  }
  t.strictSame([...measured.medians()], [['a', { rps: 20 }]], 'the warm-up is not counted');
  t.equal(tries, 1);
  t.match(measured.faults.get('b'), /48 of 15440/u);
  t.match(said.join('\n'), /failed +b +.*48 of 15440/u);
});

t.test('a failure in a later round takes back what came before', async (t) => {
  const { measured } = start();
  await measured.take('a', 'round 1', async () => ({ rps: 10 }));
  await measured.take('a', 'round 2', () => Promise.reject(new Error('ended')));
  t.equal(measured.medians().size, 0);
});

t.test('what several measurements need fails them all; an abort ends the run', async (t) => {
  const { measured, stop } = start();
  t.equal(await measured.attempt(['a', 'b'], () => Promise.reject(new Error('no lab'))), undefined);
  t.strictSame([...measured.faults.keys()], ['a', 'b']);
  stop.abort(new Error('stopped by SIGINT'));
  await t.rejects(
    measured.take('c', 'once', async () => ({})),
    { message: 'stopped by SIGINT' },
  );
});

t.test('rows of a failed measurement, in the table, as JSON and in the picture', async (t) => {
  const samples = new Map(measurementsOf([...ROWS, ...PEER_ROWS], true).map((one) => [keyOf(one), { gbps: 5, cpuPerGb: 1 }]));
  samples.delete('hbone stream-1 culvert');
  samples.delete('direct stream-8 culvert');
  samples.delete('hbone stream-8 ztunnel');
  const faults = new Map([
    ['hbone stream-1 culvert', 'iperf3: no route'],
    ['direct stream-8 culvert', 'iperf3: busy'],
    ['hbone stream-8 ztunnel', 'it ended'],
  ]);
  const named = (name: string) => {
    const spec = ROWS.find((row) => row.name === name);
    return spec && rowOf(spec, samples, faults);
  };
  const failed = named('hbone stream-1 cpu');
  t.strictSame(JSON.parse(JSON.stringify(failed)), {
    name: 'hbone stream-1 cpu',
    unit: 'CPU s/GB',
    value: null,
    bar: '<= 1.6',
    ok: false,
    limit: 'not measured',
    error: 'iperf3: no route',
  });
  t.match(named('hbone stream-8 against direct'), { value: 5, ok: false, error: 'iperf3: busy' }, 'its peer failed');
  t.match(named('hbone stream-8 cpu'), { value: 1, ok: true }, 'a peer that the bar does not need may fail');
  const rows = [failed, named('hbone stream-8 cpu')].filter((row) => row !== undefined);
  t.match(formatRows(rows), /hbone stream-1 cpu: not measured: iperf3: no route/u);
  t.match(rowsSvg(rows, 'title'), /not measured/u);
});
