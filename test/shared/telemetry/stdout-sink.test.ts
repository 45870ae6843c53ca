import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { stdoutSink, writeLines } from '../../../shared/telemetry/stdout-sink.ts';

t.test('lines are written after a moment, in order', async (t) => {
  const file = join(t.testdir(), 'log');
  const fd = openSync(file, 'w');
  t.teardown(() => closeSync(fd));
  const sink = stdoutSink(fd);
  sink.write('one\n');
  sink.write('zwölf\n');
  t.equal(readFileSync(file, 'utf8'), '');
  await sleep(50);
  t.equal(readFileSync(file, 'utf8'), 'one\nzwölf\n');
  sink.write('last\n');
  sink.flush?.();
  t.equal(readFileSync(file, 'utf8'), 'one\nzwölf\nlast\n');
});

t.test('many lines do not wait', async (t) => {
  const file = join(t.testdir(), 'log');
  const fd = openSync(file, 'w');
  t.teardown(() => closeSync(fd));
  const sink = stdoutSink(fd);
  const lines = Array.from({ length: 1000 }, (_, index) => `line ${index} ${'x'.repeat(40)}\n`);
  for (const line of lines) sink.write(line);
  const early = readFileSync(file, 'utf8');
  t.ok(early.length > 40_000, `${early.length} bytes`);
  t.ok(early.endsWith('\n'), 'whole lines only');
  await sleep(50);
  t.equal(readFileSync(file, 'utf8'), lines.join(''));
});

t.test('a line longer than a batch is written whole', async (t) => {
  const file = join(t.testdir(), 'log');
  const fd = openSync(file, 'w');
  t.teardown(() => closeSync(fd));
  stdoutSink(fd).write(`${'y'.repeat(20_000)}\n`);
  await sleep(50);
  t.equal(readFileSync(file, 'utf8').length, 20_001);
});

t.test('a slow reader of a pipe gets everything; a gone one is no error', async (t) => {
  const module = join(import.meta.dirname, '..', '..', '..', 'shared', 'telemetry', 'stdout-sink.ts');
  const program = `
    const { stdoutSink } = await import(${JSON.stringify(module)});
    const sink = stdoutSink();
    for (let index = 0; index < 5000; index += 1) sink.write('line ' + index + ' ' + 'z'.repeat(60) + '\\n');
    sink.flush();
    process.stderr.write('done');`;
  const slow = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] });
  await new Promise((done) => setTimeout(done, 300));
  let text = '';
  for await (const chunk of slow.stdout.setEncoding('utf8')) text += chunk;
  t.equal(text.split('\n').length, 5001);
  const gone = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] });
  gone.stdout.destroy();
  let said = '';
  for await (const chunk of gone.stderr.setEncoding('utf8')) said += chunk;
  t.equal(said, 'done');
});

t.test('gathered lines leave whole, as many at a time as the kernel does not mix with those of other threads', async (t) => {
  const lengths = [10, 4095, 1, 6000, 2000, 2095, 1, 9000];
  const text = lengths.map((length, index) => `${String(index).repeat(length)}\n`).join('');
  const pieces: string[] = [];
  writeLines(1, Buffer.from(text), (_fd, bytes) => void pieces.push(Buffer.from(bytes).toString()));
  t.equal(pieces.join(''), text);
  for (const piece of pieces) {
    t.ok(piece.endsWith('\n'));
    t.ok(piece.length <= 4096 || piece.indexOf('\n') === piece.length - 1, `${piece.length} bytes`);
  }
  t.ok(pieces.length < lengths.length, 'short ones together');
});
