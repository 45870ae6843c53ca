import t from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import type { Clock } from '#shared/clock.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { CertificateFeed } from '#shared/workers/certificate-feed.ts';
import { WorkerGroup } from '#shared/workers/group.ts';
import { WorkerThreads } from '#shared/workers/threads.ts';
import { WorkerWatch } from '#shared/workers/watch.ts';
import type { Spin } from '../../fixtures/spinning-thread.ts';
import { eventually } from '../../harness/mesh-lab.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A watch with looks 1 s apart, and what it said. */
function watched() {
  const clock = new FakeClock();
  const said: string[] = [];
  let answer = Promise.withResolvers<void>();
  let asked = 0;
  const watch = new WorkerWatch(
    {
      clock,
      ask: () => {
        asked += 1;
        answer = Promise.withResolvers();
        return answer.promise;
      },
      onSilent: () => said.push('silent'),
      onHeard: () => said.push('heard'),
      onHung: () => said.push('hung'),
    },
    { every: 1000, silent: 2, hung: 4 },
  );
  const pass = async (seconds: number): Promise<void> => {
    for (let i = 0; i < seconds; i++) {
      clock.advance(1000);
      await turn();
    }
  };
  return { said, watch, pass, answer: () => answer.resolve(), asked: () => asked };
}

t.test('a worker that answers is asked again and again, and nothing is said', async (t) => {
  const { said, pass, answer, asked, watch } = watched();
  for (let i = 0; i < 10; i++) {
    await pass(1);
    answer();
    await turn();
  }
  t.equal(asked(), 10);
  t.same(said, []);
  watch[Symbol.dispose]();
  await pass(10);
  t.equal(asked(), 10, 'not when its watch is over');
});

t.test('one that does not answer is silent, then hung; each is said once', async (t) => {
  const { said, pass, asked } = watched();
  await pass(2);
  t.same(said, []);
  await pass(1);
  t.same(said, ['silent']);
  await pass(10);
  t.same(said, ['silent', 'hung']);
  t.equal(asked(), 1, 'and it is asked once');
});

t.test('one that answers late is heard again', async (t) => {
  const { said, pass, answer } = watched();
  await pass(4);
  answer();
  await turn();
  t.same(said, ['silent', 'heard']);
  await pass(3);
  t.same(said, ['silent', 'heard', 'silent'], 'and asked again');
});

t.test('who stood still himself does not blame the worker', async (t) => {
  const said: string[] = [];
  let now = 0;
  let look = (): void => undefined;
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after(_ms, callback) {
      look = callback;
      return { cancel: () => undefined };
    },
  };
  const silent = Promise.withResolvers<void>();
  const say = (what: string) => () => void said.push(what);
  using _watch = new WorkerWatch(
    { clock, ask: () => silent.promise, onSilent: say('silent'), onHeard: say('heard'), onHung: say('hung') },
    { every: 1000, silent: 2, hung: 4 },
  );
  for (const at of [1000, 2000, 3_600_000, 3_601_000]) {
    t.same(said, []);
    now = at;
    look();
  }
  t.same(said, ['silent'], 'what it missed in time counts');
});

t.test('a data worker that spins: not ready, then replaced, and who asked it something is answered', async (t) => {
  const readiness = new Readiness();
  const lines: string[] = [];
  const metrics = new Metrics();
  const group = new WorkerGroup<never, Spin, { spin: undefined }>(
    {
      certificates: { get: () => Promise.reject(new Error('none')) },
      feed: new CertificateFeed(),
      metrics,
      logging: new Logging({ sink: { write: (line) => lines.push(line) } }),
      readiness,
      clock: systemClock,
      openFiles: 1024,
      threads: new WorkerThreads(new URL('../../fixtures/spinning-thread.ts', import.meta.url)),
      watch: { every: 100, silent: 2, hung: 8 },
    },
    2,
    { start: (common) => common, onStarted: () => Promise.resolve(), serve: () => undefined },
  );
  t.teardown(() => group.stop());
  group.run();
  await group.started;
  t.equal(readiness.ready, true);
  const answer = group.slots[0]?.ask({ kind: 'spin' });
  await eventually('silence', () => (readiness.ready ? undefined : true));
  t.same(readiness.pending, ['data worker']);
  await t.rejects(answer ?? Promise.resolve(), { message: 'data worker 0 has ended' });
  await eventually('its successor', () => readiness.ready || undefined);
  t.equal(await group.slots[0]?.ask({ kind: 'ping' }), undefined);
  t.match((await metrics.render()).body, /^culvert_worker_restarts_total 1$/mu);
  t.match(lines.join(''), /does not answer.*worker=0[^]*hangs and is ended.*worker=0/u);
  t.notMatch(lines.join(''), /worker=1/u, 'the other one has nothing to do with it');
});
