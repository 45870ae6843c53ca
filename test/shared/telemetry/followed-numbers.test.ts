// Numbers of worker threads in the metrics of their process, read from shared memory.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import type { Test } from 'tap';
import { FollowedNumbers } from '#shared/telemetry/followed-numbers.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import type { Announcement } from '#shared/telemetry/shared-numbers.ts';
import { SharedNumbers } from '#shared/telemetry/shared-numbers.ts';

function process() {
  const main = new Metrics();
  const numbers = new FollowedNumbers(main);
  main.beforeRender(() => numbers.read());
  let heard = 0;
  const worker = (index: number): Metrics =>
    new Metrics({
      shared: new SharedNumbers((news) => {
        heard += 1;
        numbers.hear(index, news);
      }),
    });
  return { main, numbers, worker, heard: () => heard };
}

t.test('counters, gauges and histograms of workers add up; of an ended one the counts stay', async (t) => {
  const { main, numbers, worker } = process();
  const workers = [worker(0), worker(1)];
  const cells = workers.map((metrics) => ({
    bytes: metrics.counter('bytes_total', 'Bytes', ['a', 'b']).cell('x', 'y'),
    open: metrics.gauge('open', 'Open', ['a']).cell('x'),
    took: metrics.distribution('took', 'Time', ['a'], [1, 10]).cell('x'),
  }));
  for (const { bytes, open, took } of cells) {
    bytes.add(5);
    open.add(2);
    for (const value of [0.5, 5, 50]) took.observe(value);
  }
  main.counter('bytes_total', 'Bytes', ['a', 'b']).add(1, 'x', 'y');
  let body = '';
  for (const _ of ['once', 'twice']) ({ body } = await main.render());
  t.match(body, '# HELP bytes_total Bytes');
  t.match(body, /^bytes_total\{a="x",b="y"\} 11$/mu, 'with what the process itself counted; read twice, counted once');
  t.match(body, /^open\{a="x"\} 4$/mu);
  for (const line of [
    'took_bucket{le="1",a="x"} 2',
    'took_bucket{le="10",a="x"} 4',
    'took_sum{a="x"} 111',
    'took_count{a="x"} 6',
  ])
    t.match(body, line);
  cells[0]?.bytes.add(1);
  cells[0]?.open.add(-1);
  cells[1]?.bytes.add(1);
  numbers.forget(1);
  ({ body } = await main.render());
  t.match(body, /^bytes_total\{a="x",b="y"\} 13$/mu, 'also what nobody had read when it ended');
  t.match(body, /^open\{a="x"\} 1$/mu, 'what it held is gone');
  t.match(body, 'took_count{a="x"} 6');
  worker(1).counter('bytes_total', 'Bytes', ['a', 'b']).add(1, 'x', 'y');
  ({ body } = await main.render());
  t.match(body, /^bytes_total\{a="x",b="y"\} 14$/mu, 'its successor begins anew');
});

t.test('a family without numbers is in the exposition too', async (t) => {
  const { main, worker } = process();
  worker(0).counter('none_total', 'None yet', ['a']);
  t.match((await main.render()).body, '# TYPE none_total counter');
});

t.test('label sets have their places for good, of however many pages; counting tells nobody', async (t) => {
  const { main, worker, heard } = process();
  const metrics = worker(0);
  const family = metrics.counter('many_total', 'Many', ['a']);
  const took = metrics.distribution(
    'took',
    'Time',
    ['a'],
    Array.from({ length: 600 }, (_, index) => index),
  );
  const cells = Array.from({ length: 2000 }, (_, index) => family.cell(String(index)));
  took.cell('x').observe(599);
  const before = heard();
  for (let round = 0; round < 3; round++) for (const cell of cells) cell.add(1);
  took.cell('x').observe(599);
  t.equal(heard(), before);
  const { body } = await main.render();
  t.equal(body.match(/^many_total\{a="\d+"\} 3$/gmu)?.length, 2000);
  t.match(body, 'took_count{a="x"} 2');
});

async function spinning(t: Test) {
  const { main, numbers } = process();
  const thread = new Worker(new URL('../../fixtures/counting-thread.ts', import.meta.url));
  t.teardown(() => thread.terminate());
  const started = Promise.withResolvers<void>();
  thread.on('message', (news: Announcement) => {
    numbers.hear(0, news);
    if (news.kind === 'series' && news.values === '') started.resolve();
  });
  await started.promise;
  const turns = async (): Promise<number> =>
    Number(/^turns_total\{thread="busy"\} (\d+)$/mu.exec((await main.render()).body)?.[1]);
  return { main, numbers, thread, turns };
}

t.test('a thread in a turn that never ends is read like any other', async (t) => {
  const { turns } = await spinning(t);
  let last = 0;
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = await turns();
    t.ok(now > last, `${now} > ${last}`);
    last = now;
  }
});

t.test('what a thread counted until the moment that it was killed is not lost', async (t) => {
  const { main, numbers, thread, turns } = await spinning(t);
  const before = await turns();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const exit = once(thread, 'exit');
  void thread.terminate();
  await exit;
  numbers.forget(0);
  const after = await turns();
  t.ok(after > before, `${after} > ${before}`);
  t.match((await main.render()).body, /^busy 0$/mu);
});
