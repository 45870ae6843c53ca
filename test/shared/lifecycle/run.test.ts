import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';

t.setTimeout(30_000);

const root = new URL('../../../', import.meta.url).href;

/** Runs a program whose `start` and `stop` are the given sources; sends the signals when it says it is up. */
async function runProgram(
  t: Tap,
  { start = '', stop = '', signals = [] }: { start?: string; stop?: string; signals?: NodeJS.Signals[] },
): Promise<{ code: number | null; output: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-run-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'main.ts');
  await writeFile(
    path,
    `import { run } from '${root}shared/lifecycle/run.ts';
     import { Logging } from '${root}shared/telemetry/log.ts';
     import { MeshError } from '${root}shared/errors.ts';
     const logging = new Logging();
     const log = logging.scope('main');
     await run({
       log,
       flush: () => logging.flush(),
       async start({ requestStop, stopping }) {
         ${start}
         log.info('up');
         return { async stop() { ${stop} } };
       },
     });`,
  );
  const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const waiting = [...signals];
  child.stdout.on('data', (chunk: Buffer) => {
    // One signal for each such line; a busy machine may deliver several lines at once.
    for (const _line of chunk.toString().matchAll(/\tup\n|shutting down|stopping now/gu)) {
      const signal = waiting.shift();
      if (signal) child.kill(signal);
    }
  });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, output: output + errors };
}

type Tap = Pick<typeof t, 'teardown'>;

t.test('SIGTERM stops in order and exits 0, though timers are left', async (t) => {
  const { code, output } = await runProgram(t, {
    start: 'setInterval(() => undefined, 1000);',
    stop: "log.info('closing');",
    signals: ['SIGTERM'],
  });
  t.equal(code, 0, output);
  t.match(output, /up\n.*shutting down\treason="SIGTERM"\n.*closing\n.*stopped\n$/su);
});

t.test('stays up with nothing but the wait for a signal', async (t) => {
  const { code, output } = await runProgram(t, {
    start: "setTimeout(() => log.info('stopping now'), 300).unref();",
    signals: ['SIGWINCH', 'SIGINT'],
  });
  t.equal(code, 0, output);
  t.match(output, /reason="SIGINT"/u);
});

t.test('an error to stop for: stops in order, and exits 1', async (t) => {
  const { code, output } = await runProgram(t, {
    start: "setTimeout(() => requestStop(new MeshError('internal', 'nothing can be served')), 10);",
    stop: "log.info('closing');",
  });
  t.equal(code, 1, output);
  t.match(output, /error\tmain\tshutting down\terror="nothing can be served" code="internal"\n.*closing\n.*stopped\n$/su);
});

t.test('gives back the memory of the start when Node lets it', async (t) => {
  const { code, output } = await runProgram(t, {
    start: "globalThis.gc = (how) => log.info('stopping now', how);",
    signals: ['SIGWINCH', 'SIGINT'],
  });
  t.equal(code, 0, output);
  t.match(output, /type="major" flavor="last-resort"/u);
});

t.test('a second SIGINT does not wait for the stop', async (t) => {
  const { code, output } = await runProgram(t, {
    stop: "log.info('stopping now'); await new Promise((resolve) => setTimeout(resolve, 20_000));",
    signals: ['SIGINT', 'SIGINT', 'SIGINT'],
  });
  t.equal(code, 0, output);
  t.notMatch(output, /stopped/u);
});

t.test('what ends a process with 1, in words', async (t) => {
  const bad = await runProgram(t, { start: "throw new MeshError('invalid_config', 'XDS_ADDRESS is not set');" });
  t.equal(bad.code, 1);
  t.match(bad.output, /error\tmain\tstart failed\terror="XDS_ADDRESS is not set" code="invalid_config"/u);
  t.notMatch(bad.output, /stack/u);
  const thrown = await runProgram(t, { start: "setTimeout(() => { throw new Error('boom'); }, 10);" });
  t.equal(thrown.code, 1);
  t.match(thrown.output, /uncaught error\terror="boom" stack=/u);
  const rejected = await runProgram(t, { start: "void Promise.reject(new Error('lost'));" });
  t.equal(rejected.code, 1);
  t.match(rejected.output, /unhandled rejection\terror="lost"/u);
  const stop = await runProgram(t, { start: "setTimeout(() => requestStop('test'), 10);", stop: "throw new Error('stuck');" });
  t.equal(stop.code, 1);
  t.match(stop.output, /stop failed\terror="stuck"/u);
});

t.test('a stop during the start ends the start', async (t) => {
  const { code, output } = await runProgram(t, {
    start: `log.info('stopping now');
      await new Promise((_, reject) => stopping.addEventListener('abort', () => reject(new Error('interrupted'))));`,
    signals: ['SIGTERM'],
  });
  t.equal(code, 0, output);
  t.notMatch(output, /start failed/u);
});
