// The demo is a session of the command line tool: every step runs what a user would type, shows it, and checks what came of it.
import { spawn, type ChildProcess } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const tool = path.join(root, 'cli', 'culvert');

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Session {
  /** Shows the command, runs it, and shows its output unless `quiet`. */
  culvert(args: readonly string[], options?: { quiet?: boolean; silent?: boolean; timeout?: number }): Promise<Outcome>;
  /** Starts a command that goes on beside the rest; killed at the end. */
  background(args: readonly string[], onLine: (line: string) => void): ChildProcess;
  title(text: string): void;
  note(text: string): void;
  check(what: string, held: boolean, detail?: string): void;
  readonly failed: readonly string[];
  readonly passed: number;
  end(): void;
}

const dim = (text: string): string => (process.stdout.isTTY ? `\u001B[2m${text}\u001B[0m` : text);
const bold = (text: string): string => (process.stdout.isTTY ? `\u001B[1m${text}\u001B[0m` : text);
const quote = (word: string): string => (/^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

export function openSession(runDir: string): Session {
  const failed: string[] = [];
  const children = new Set<ChildProcess>();
  const started = performance.now();
  let passed = 0;
  let step = 0;
  const env = { ...process.env, CULVERT_RUN_DIR: runDir };
  const say = (text: string): void => void process.stdout.write(`${text}\n`);

  return {
    failed,
    get passed() {
      return passed;
    },
    title(text) {
      step += 1;
      const seconds = ((performance.now() - started) / 1000).toFixed(0);
      say(`\n${bold(`${step}. ${text}`)} ${dim(`(${seconds} s)`)}`);
    },
    note: (text) => say(`   ${dim(text)}`),
    check(what, held, detail) {
      if (held) passed += 1;
      else failed.push(detail === undefined ? what : `${what}: ${detail}`);
      say(`   ${held ? '✔' : '✘'} ${what}${detail === undefined ? '' : dim(` — ${detail}`)}`);
    },
    culvert(args, options = {}) {
      if (options.silent !== true) say(`   $ culvert ${args.map(quote).join(' ')}`);
      const child = spawn(tool, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: options.timeout ?? 60_000 });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
      return new Promise((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (code) => {
          if (options.quiet !== true && options.silent !== true) {
            for (const line of `${stdout}${stderr}`.trimEnd().split('\n'))
              if (line !== '') say(`     ${dim(line.slice(0, 230))}`);
          }
          resolve({ code: code ?? 1, stdout, stderr });
        });
      });
    },
    background(args, onLine) {
      say(`   $ culvert ${args.map(quote).join(' ')} &`);
      const child = spawn(tool, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'ignore'] });
      children.add(child);
      let rest = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        lines.forEach(onLine);
      });
      return child;
    },
    end() {
      for (const child of children) child.kill('SIGTERM');
    },
  };
}

/** Asks until it holds; the last answer is returned either way. */
export async function eventually<T>(ask: () => Promise<T>, holds: (answer: T) => boolean, seconds = 10): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (holds(answer) || performance.now() > end) return answer;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
