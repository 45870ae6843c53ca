import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Supervised } from '../../../cli/lab/supervised.ts';
import type { Exit } from '../../../cli/lab/supervised.ts';

const dir = mkdtempSync(join(tmpdir(), 'culvert-supervised-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
let count = 0;

function supervise(script: string, restart: (exit: Exit) => boolean): { process: Supervised; log: () => string } {
  const logFile = join(dir, `${count++}.log`);
  const launch = () => ({ argv: ['sh', '-c', script], env: { PATH: process.env['PATH'] ?? '' }, logFile });
  const supervised = new Supervised({ name: 'it', launch, restart, clock: systemClock, onChange: () => {} });
  t.teardown(() => supervised.stop(0));
  return { process: supervised, log: () => readFileSync(logFile, 'utf8') };
}

async function until(holds: () => boolean): Promise<void> {
  for (let waited = 0; waited < 5000 && !holds(); waited += 10) await sleep(10);
}

t.test('what it writes is kept, its exit code too', async (t) => {
  const { process: it, log } = supervise('echo said; exit 3', () => false);
  await it.start();
  await until(() => it.state.t === 'ended');
  t.match(it.state, { t: 'ended', exit: { code: 3 } });
  t.equal(log(), 'said\n');
});

t.test('it starts again after a pause, and says why it waits', async (t) => {
  const { process: it, log } = supervise('echo again; exit 1', () => true);
  await it.start();
  await until(() => it.state.t === 'waiting' && it.restarts === 1);
  t.match(it.state, { t: 'waiting', reason: 'CrashLoopBackOff', message: /it ended with code 1; next attempt in 0\.\d s/u });
  await until(() => it.restarts >= 2);
  t.equal(log(), 'again\nagain\n');
  await it.stop(0);
  const { restarts } = it;
  await sleep(900);
  t.equal(it.restarts, restarts, 'not after it was stopped');
});

t.test('stop asks first and then insists', async (t) => {
  const polite = supervise('trap "echo bye; exit 0" TERM; while :; do sleep 0.05; done', () => true);
  await polite.process.start();
  await sleep(150);
  await polite.process.stop(3000);
  t.equal(polite.log(), 'bye\n');
  const stubborn = supervise('trap "" TERM; while :; do sleep 0.05; done', () => true);
  await stubborn.process.start();
  await sleep(150);
  await stubborn.process.stop(200);
  t.match(stubborn.process.state, { t: 'ended', exit: { signal: 'SIGKILL' } });
});

t.test('a program that does not exist is a reason to wait, not an end', async (t) => {
  const { process: it } = supervise('exec /no/such/program', () => true);
  await it.start();
  await until(() => it.restarts > 0);
  t.match(it.state, { t: 'waiting' });
});
