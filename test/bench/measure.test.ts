import t from 'tap';
import { cpuBetween, parseMachine, parseTicks, readCpu } from '../../bench/measure/cpu.ts';
import { parseMemory } from '../../bench/measure/memory.ts';
import { microseconds, parseH2load, parseIperf, parseWrk, requireAnswers } from '../../bench/measure/tools.ts';
import type { PathLab } from '../../bench/path/lab.ts';
import { measureTraffic } from '../../bench/path/loads.ts';

t.test('the machine: idle and iowait are not busy', (t) => {
  t.same(parseMachine('cpu  10 1 20 100 5 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n'), { busy: 40, total: 145 });
  t.end();
});

t.test('ticks of a process whose name has brackets and blanks', (t) => {
  t.same(parseTicks('42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 222 0'), { user: 111, system: 222 });
  t.end();
});

t.test('CPU time of a process that works', async (t) => {
  const before = await readCpu([process.pid]);
  const end = performance.now() + 150;
  while (performance.now() < end);
  const { cpu, cores, user } = cpuBetween(before, await readCpu([process.pid]));
  t.ok(cpu > 0.01 && cpu < 2, `${cpu} s`);
  t.ok(cores > 0.05, `${cores} cores`);
  t.ok(user >= 0 && user <= 1);
});

t.test('memory', (t) => {
  t.same(parseMemory('Name:\tx\nVmRSS:\t   2048 kB\nRssAnon:\t     512 kB\n'), { rss: 2_097_152, anonymous: 524_288 });
  t.end();
});

t.test('h2load', (t) => {
  const report = `
finished in 2.00s, 45256.50 req/s, 3.50MB/s
requests: 90513 total, 90577 started, 90513 done, 90500 succeeded, 13 failed, 13 errored, 0 timeout
                     min         max         mean         sd        +/- sd
time for request:      123us     11.70ms      1.36ms       412us    88.00%
time for connect:       90us       150us       110us        20us    50.00%
`;
  t.same(parseH2load(report), { requests: 90_500, perSecond: 45_256.5, p50: 1360, p99: 11_700, errors: 13 });
  t.throws(() => parseH2load('finished in 190us, 0.00 req/s, 0B/s'), /no answers/);
  t.end();
});

t.test('iperf3', (t) => {
  const report = { end: { sum_received: { bytes: 500, bits_per_second: 2.5e9 } } };
  t.same(parseIperf(JSON.stringify(report)), { bytes: 500, gbps: 2.5 });
  t.throws(() => parseIperf('{"error":"unable to connect"}'), /unable to connect/);
  t.throws(() => parseIperf('{"end":{}}'), /no sum/);
  t.throws(() => parseIperf('Segmentation fault'), /not a report: Segmentation/);
  t.end();
});

t.test('wrk', (t) => {
  const report = `Running 2s test @ http://10.0.0.1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   403.79us  219.16us   5.14ms   88.84%
  Latency Distribution
     50%  362.00us
     75%    1.10ms
     99%    2.59ms
  74714 requests in 2.00s, 11.33MB read
  Socket errors: connect 1, read 2, write 0, timeout 3
  Non-2xx or 3xx responses: 4
Requests/sec:  37356.79
Transfer/sec:      5.66MB
`;
  t.same(parseWrk(report), { requests: 74_714, perSecond: 37_356.79, p50: 362, p99: 2590, errors: 10 });
  t.throws(() => parseWrk('unable to connect to 10.0.0.1:80 Connection refused'), /no answers: unable to connect/);
  t.equal(microseconds('1.50s'), 1_500_000);
  t.equal(microseconds('x'), 0);
  t.end();
});

t.test('errors of a generator: one of a thousand requests may fail, two fail the measurement', async (t) => {
  requireAnswers({ requests: 10_000, errors: 10 }, 'x', '');
  t.throws(() => requireAnswers({ requests: 10_000, errors: 11 }, 'x', 'report'), /x: 11 of 10000 requests failed:\nreport/);

  const measured = (errors: number): Promise<unknown> => {
    const report = `  1000 requests in 1.00s, 1MB read\n  Socket errors: connect 0, read ${errors}, write 0, timeout 0\nRequests/sec:  1000.00\n`;
    const lab: PathLab = {
      ztunnels: [],
      programs: [],
      runDir: '',
      pod: () => ({ ip: '127.0.0.1', pid: 0 }),
      exec: async () => report,
      [Symbol.asyncDispose]: async () => undefined,
    };
    return measureTraffic({ lab, from: 'mesh', to: 'mesh', target: 'far', proxies: [] }, 'connections', 1);
  };
  t.match(await measured(1), { rps: 1000, errors: 1 });
  await t.rejects(measured(2), /connections to mesh\/far: 2 of 1000 requests failed/);
});
