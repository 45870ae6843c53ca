// Runs the test suite and closes with one plain line: `N passed, N failed` (`, N skipped` when some were, each with its reason above).
// Arguments are test files; none means all of them.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const bin = path.join(root, 'node_modules', '.bin');
const tap = path.join(bin, 'tap');
// Of this run alone: what one run cached wrongly must not fail the next ones.
const compileCache = mkdtempSync(path.join(tmpdir(), 'culvert-test-compile-'));
process.on('exit', () => rmSync(compileCache, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
const env = {
  ...process.env,
  PATH: `${bin}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
  NODE_COMPILE_CACHE: compileCache,
};

function run(args: string[], onLine: (line: string) => void): Promise<number> {
  const child = spawn(tap, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (rest !== '') onLine(rest);
      resolve(code ?? 1);
    });
  });
}

/** A test that was killed leaves its network namespaces (test/harness/netns.ts): they go when their process is gone. */
function sweepNamespaces(): void {
  const directory = '/run/netns';
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const pid = /^culvert-test-(\d+)-/u.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) execFileSync('ip', ['netns', 'del', name]);
  }
}

// tap's own plug-in set is built once per install (style: tap 21 without its TypeScript plug-in).
if (!existsSync(path.join(root, '.tap', 'plugins')) && (await run(['build'], () => {})) !== 0) {
  console.log('0 passed, 1 failed');
  process.exit(1);
}

sweepNamespaces();
const started = performance.now();
const counts = { pass: 0, fail: 0, skip: 0 };
const files = process.argv.slice(2);
const code = await run(['--reporter=tap', ...files], (line) => {
  const assertion = /^(\s*)(not ok|ok) \d+(.*)$/u.exec(line);
  // A line that opens or closes a subtest repeats what its assertions said; only files (no indent) and failures are shown.
  if (assertion) {
    const [, indent = '', verdict, text = ''] = assertion;
    const skipped = /# (SKIP|TODO)\b/iu.test(text);
    if (skipped) counts.skip += 1;
    if (indent === '' || verdict === 'not ok' || skipped) console.log(line);
    return;
  }
  const summary = /^# \{ (.*) \}$/u.exec(line);
  if (summary) {
    for (const [, name, value] of (summary[1] ?? '').matchAll(/(\w+): (\d+)/gu))
      if (name === 'pass' || name === 'fail') counts[name] = Number(value);
  } else if (
    /^\s+(---|\.\.\.|[+-] |diff:|at:|stack:|found:|wanted:|message:|source:|\w+Error)/u.test(line) ||
    /^\s{4,}\S/u.test(line)
  ) {
    diagnostics(line);
  }
});

/** Indented lines that follow a failure are its explanation; tap prints them only for failures. */
function diagnostics(line: string): void {
  if (!/^\s*(1\.\.\d+|# (Subtest|time))/u.test(line)) console.log(line);
}

sweepNamespaces();
if (code !== 0 && counts.fail === 0) counts.fail = 1;
const skipped = counts.skip > 0 ? `, ${counts.skip} skipped` : '';
console.log(`# ${((performance.now() - started) / 1000).toFixed(0)} s`);
console.log(`${counts.pass} passed, ${counts.fail} failed${skipped}`);
process.exit(counts.fail > 0 ? 1 : 0);
