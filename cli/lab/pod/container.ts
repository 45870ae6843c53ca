// One container of a pod: its process, its restarts, its readiness.
import { readFile, readlink } from 'node:fs/promises';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Timer } from '#shared/clock.ts';
import { Supervised } from '../supervised.ts';
import type { Exit, Launch } from '../supervised.ts';
import type { Container } from './environment.ts';
import { PREPARING } from './launch-script.ts';
import { runProbe } from './probe.ts';
import type { ProbeTarget } from './probe.ts';

export interface ContainerOptions {
  container: Container;
  launch(): Promise<Launch>;
  restartPolicy: 'Always' | 'OnFailure' | 'Never';
  clock: Clock;
  probeTarget: Omit<ProbeTarget, 'container' | 'enter'>;
  onChange(): void;
}

export class RunningContainer {
  readonly container: Container;
  readonly process: Supervised;
  /** Why the last readiness probe failed; undefined when it did not. */
  notReady: string | undefined = 'no probe was sent yet';
  #options: ContainerOptions;
  #timer: Timer | undefined;
  #successes = 0;
  #failures = 0;
  #probedPid = 0;

  constructor(options: ContainerOptions) {
    this.container = options.container;
    this.#options = options;
    this.process = new Supervised({
      name: `container ${options.container.name}`,
      launch: () => options.launch(),
      restart: (exit) => shouldRestart(options.restartPolicy, exit),
      clock: options.clock,
      mainPid: containerInit,
      onChange: () => this.#changed(),
    });
  }

  get ready(): boolean {
    return this.process.state.t === 'running' && (!this.container.readinessProbe || this.notReady === undefined);
  }

  async start(): Promise<void> {
    await this.process.start();
  }

  async stop(grace: number): Promise<void> {
    this.#timer?.cancel();
    await this.process.stop(grace);
    this.#timer?.cancel();
  }

  #changed(): void {
    const { state } = this.process;
    const probe = this.container.readinessProbe;
    if (probe && state.t === 'running' && state.pid !== this.#probedPid) {
      this.#probedPid = state.pid;
      this.#successes = 0;
      this.#failures = 0;
      this.notReady = 'no probe was sent yet';
      this.#timer?.cancel();
      this.#timer = this.#options.clock.after((probe.initialDelaySeconds ?? 0) * 1000, () => void this.#probe());
    }
    this.#options.onChange();
  }

  async #probe(): Promise<void> {
    const probe = this.container.readinessProbe;
    const { state } = this.process;
    if (!probe || state.t !== 'running') return;
    const { pid } = state;
    const failure = await runProbe(probe, {
      ...this.#options.probeTarget,
      container: this.container,
      enter: (argv) => enterContainer(pid, argv),
    });
    if (this.#probedPid !== pid || this.process.state.t !== 'running') return;
    this.#successes = failure === undefined ? this.#successes + 1 : 0;
    this.#failures = failure === undefined ? 0 : this.#failures + 1;
    const before = this.notReady;
    if (this.#successes >= (probe.successThreshold ?? 1)) this.notReady = undefined;
    else if (before !== undefined || this.#failures >= (probe.failureThreshold ?? 3)) this.notReady = failure ?? before;
    if (this.notReady !== before) this.#options.onChange();
    this.#timer = this.#options.clock.after(
      probePause(probe.periodSeconds, this.notReady === undefined),
      () => void this.#probe(),
    );
  }
}

/** The command line that runs `argv` where the process `pid` lives: its file system, network, processes and host name. */
export function enterContainer(pid: number, argv: readonly string[], user?: { uid: string; gid: string }): string[] {
  const where = ['--target', String(pid), '--mount', '--pid', '--net', '--uts', '--root', '--wd'];
  return ['nsenter', ...where, ...(user ? ['--setgid', user.gid, '--setuid', user.uid] : []), '--', ...argv];
}

/** While it is not ready it is asked more often than its period says: starting should not take ten seconds. Milliseconds. */
function probePause(periodSeconds = 10, ready: boolean): number {
  return ready ? periodSeconds * 1000 : Math.min(periodSeconds * 1000, 300);
}

function shouldRestart(policy: ContainerOptions['restartPolicy'], exit: Exit): boolean {
  return policy === 'Always' || (policy === 'OnFailure' && exit.code !== 0);
}

/**
 * The container's first process. `unshare` forks it; it is the program proper as soon as it has left the machine's root folder.
 * When it ends before that, the child is returned: whoever waits sees its exit.
 */
async function containerInit(child: ChildProcess): Promise<number> {
  const parent = child.pid ?? 0;
  while (child.exitCode === null && child.signalCode === null) {
    const children = await readFile(join('/proc', String(parent), 'task', String(parent), 'children'), 'utf8').catch(() => '');
    const pid = Number(children.trim().split(' ')[0]);
    if (pid > 0) {
      const root = await readlink(`/proc/${pid}/root`).catch(() => '/');
      if (root !== '/' && (await programRuns(pid))) return pid;
    }
    await sleep(5);
  }
  return parent;
}

/** False while the process is still the shell that prepares the container. */
async function programRuns(pid: number): Promise<boolean> {
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return line !== '' && !line.includes(PREPARING);
}
