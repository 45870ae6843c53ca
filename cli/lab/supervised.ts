// One process that is kept running: a container of a pod or a program of the mesh. It dies with the lab whatever ends the lab
// (PR_SET_PDEATHSIG), writes to a log file, and is started again with growing pauses as its restart rule says.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Backoff } from '#shared/backoff.ts';
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';

/** What to start; asked for again before every start. */
export interface Launch {
  argv: readonly string[];
  env: Record<string, string>;
  cwd?: string | undefined;
  logFile: string;
  /** Gives the child a channel for `process.send`. */
  ipc?: boolean | undefined;
}

export interface Exit {
  code: number;
  signal?: NodeJS.Signals | undefined;
  /** Milliseconds since the epoch. */
  startedAt: number;
  finishedAt: number;
}

export type ProcessState =
  /** Not started yet, or between two starts. */
  | { t: 'waiting'; reason: string; message: string }
  /** `pid` is where signals go, in the lab's pid namespace. */
  | { t: 'running'; pid: number; startedAt: number }
  | { t: 'ended'; exit: Exit };

export interface SupervisedOptions {
  name: string;
  launch(): Promise<Launch> | Launch;
  /** Whether to start again after that end. */
  restart(exit: Exit): boolean;
  clock: Clock;
  onChange(): void;
  /** The process that counts, when the started one is only its parent; resolves when the program proper runs. */
  mainPid?(child: ChildProcess): Promise<number>;
  onStart?(child: ChildProcess): void;
}

/** A run that lasted this long counts as a success: the next pause is short again. Milliseconds. */
const STEADY = 10_000;

export class Supervised {
  readonly name: string;
  state: ProcessState = { t: 'waiting', reason: 'ContainerCreating', message: '' };
  lastExit: Exit | undefined;
  restarts = 0;
  #options: SupervisedOptions;
  #backoff = new Backoff({ initial: 300, max: 30_000 });
  #child: ChildProcess | undefined;
  #timer: Timer | undefined;
  #stopping = false;
  #closed: Promise<void> = Promise.resolve();

  constructor(options: SupervisedOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Starts it; resolves when it runs, or is waiting for its next attempt. */
  async start(): Promise<void> {
    if (this.#stopping) return;
    try {
      await this.#spawn(await this.#options.launch());
    } catch (error) {
      this.#retry('StartError', MeshError.from(error).message);
    }
  }

  /** Ends it: SIGTERM, then SIGKILL after `grace` milliseconds. It does not start again. */
  async stop(grace: number): Promise<void> {
    this.#stopping = true;
    this.#timer?.cancel();
    const child = this.#child;
    if (!child) return;
    if (this.state.t === 'running') signal(this.state.pid, 'SIGTERM');
    else child.kill('SIGKILL');
    const force = this.#options.clock.after(grace, () => {
      if (this.state.t === 'running') signal(this.state.pid, 'SIGKILL');
      child.kill('SIGKILL');
    });
    await this.#closed;
    force.cancel();
  }

  async #spawn(launch: Launch): Promise<void> {
    const { clock } = this.#options;
    const log = openSync(launch.logFile, 'a');
    const startedAt = clock.now();
    // The signal is bound to the thread that starts the child: always this one, the lab's main thread.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...launch.argv], {
      env: launch.env,
      cwd: launch.cwd,
      // A session of its own: Ctrl-C in the terminal is for the lab, which ends its programs in order.
      detached: true,
      stdio: ['ignore', log, log, ...(launch.ipc === true ? (['ipc'] as const) : [])],
    });
    closeSync(log);
    this.#child = child;
    const closed = Promise.withResolvers<void>();
    this.#closed = closed.promise;
    child.once('error', (error) => {
      this.#child = undefined;
      closed.resolve();
      this.#retry('StartError', `${launch.argv[0] ?? ''} cannot be run: ${error.message}`);
    });
    child.once('exit', (code, cause) => {
      this.#child = undefined;
      const exit = {
        code: code ?? 128 + signalNumber(cause),
        ...(cause && { signal: cause }),
        startedAt,
        finishedAt: clock.now(),
      };
      this.#ended(exit);
      closed.resolve();
    });
    this.#options.onStart?.(child);
    const pid = this.#options.mainPid ? await this.#options.mainPid(child) : child.pid;
    if (pid === undefined || this.#child !== child) return;
    this.state = { t: 'running', pid, startedAt };
    this.#options.onChange();
  }

  #ended(exit: Exit): void {
    this.lastExit = exit;
    if (this.#stopping || !this.#options.restart(exit)) {
      this.state = { t: 'ended', exit };
      this.#options.onChange();
      return;
    }
    if (exit.finishedAt - exit.startedAt > STEADY) this.#backoff.reset();
    this.restarts += 1;
    this.#retry('CrashLoopBackOff', `${this.name} ended with ${exit.signal ?? `code ${exit.code}`}`);
  }

  #retry(reason: string, message: string): void {
    if (this.#stopping) return;
    const pause = this.#backoff.next();
    this.state = { t: 'waiting', reason, message: `${message}; next attempt in ${(pause / 1000).toFixed(1)} s` };
    this.#timer = this.#options.clock.after(pause, () => void this.start());
    this.#options.onChange();
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has just ended by itself.
  }
}

const SIGNALS: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

function signalNumber(name: NodeJS.Signals | null): number {
  return (name && SIGNALS[name]) ?? 1;
}
