// Runs the programs of the mesh: control plane, and on each node CNI agent and ztunnel; restarts what ends, keeps tokens fresh.
import { access, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { adminSocket, controlPlaneGet, requestToken } from './control-plane.ts';
import { SYSTEM_NAMESPACE } from './plan.ts';
import type { NodePlan } from './plan.ts';
import { Supervised } from './supervised.ts';
import { agentProgram, controlPlaneProgram, eventSocket, ztunnelProgram, ztunnelToken } from './system.ts';
import type { SystemContext, SystemProgram } from './system.ts';

export interface MeshOptions extends SystemContext {
  clock: Clock;
  /** `ambient`: everything; `controlplane`: no node programs; `none`: nothing at all. */
  programs: 'ambient' | 'controlplane' | 'none';
  onChange(): void;
  progress: (line: string) => void;
}

/** Milliseconds. */
const START_TIMEOUT = 30_000;
const STOP_GRACE = 2000;

export class MeshPrograms {
  readonly programs: { program: SystemProgram; process: Supervised; log: string }[] = [];
  #options: MeshOptions;
  #renewals = new Map<NodePlan, Timer>();
  #closed = false;

  constructor(options: MeshOptions) {
    this.#options = options;
  }

  /** Resolves when every program answers. */
  async start(): Promise<void> {
    const { programs, plan, progress } = this.#options;
    if (programs === 'none') return;
    const controlPlane = await this.#run(controlPlaneProgram(this.#options));
    await this.#until(controlPlane, 'the control plane is ready', async () => {
      await access(adminSocket(plan.runDir));
      await controlPlaneGet(plan.runDir, '/ready');
    });
    progress(`control plane   ready`);
    if (programs !== 'ambient') return;
    await Promise.all(plan.nodes.map((node) => this.#startNode(node)));
    progress(`nodes           CNI agent and ztunnel run on ${plan.nodes.map(({ name }) => name).join(', ')}`);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#renewals.values()) timer.cancel();
    // Nodes first: an agent or ztunnel that loses its control plane would only log about it.
    const [controlPlane, ...nodes] = this.programs;
    await Promise.all(nodes.map(({ process }) => process.stop(STOP_GRACE)));
    await controlPlane?.process.stop(STOP_GRACE);
  }

  async #startNode(node: NodePlan): Promise<void> {
    await this.#renewToken(node);
    await this.#run(ztunnelProgram(this.#options, node));
    const agent = await this.#run(agentProgram(this.#options, node));
    await this.#until(agent, `the CNI agent of ${node.name} listens`, () => access(eventSocket(node)));
  }

  async #run(program: SystemProgram): Promise<Supervised> {
    if (this.#closed) throw new MeshError('draining', 'the lab is going down');
    const where = program.node ? `${program.name} on ${program.node.name}` : program.name;
    let reported = '';
    const process = new Supervised({
      name: where,
      launch: () => program.launch(),
      restart: () => true,
      clock: this.#options.clock,
      onChange: () => {
        const { state } = process;
        if (state.t === 'waiting' && state.message !== reported && !this.#closed)
          this.#options.progress(`! ${where}: ${state.message}`);
        reported = state.t === 'waiting' ? state.message : '';
        this.#options.onChange();
      },
    });
    const log = program.launch().logFile;
    await mkdir(dirname(log), { recursive: true });
    this.programs.push({ program, process, log });
    await process.start();
    return process;
  }

  /** Polls; a program that ended meanwhile has said why in its log. */
  async #until(process: Supervised, what: string, check: () => Promise<unknown>): Promise<void> {
    let last: unknown;
    for (let waited = 0; waited < START_TIMEOUT && !this.#closed; waited += 50) {
      try {
        await check();
        return;
      } catch (error) {
        last = error;
      }
      if (process.restarts >= 2) break;
      await sleep(50);
    }
    const log = this.programs.find((entry) => entry.process === process)?.log ?? '';
    const tail = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n').slice(-8).join('\n');
    throw new MeshError('internal', `waited in vain until ${what}: ${MeshError.from(last).message}\n${log} ends with:\n${tail}`);
  }

  async #renewToken(node: NodePlan): Promise<void> {
    const { plan, clock } = this.#options;
    const podName = `ztunnel-${node.name}`;
    const { token, expires } = await requestToken(plan.runDir, {
      namespace: SYSTEM_NAMESPACE,
      serviceAccount: 'ztunnel',
      podName,
      podUid: podName,
      nodeName: node.name,
    });
    const file = ztunnelToken(node);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeFile(`${file}.new`, token, { mode: 0o600 });
    await rename(`${file}.new`, file);
    this.#renewAfter(node, (expires - clock.now()) * 0.8);
  }

  #renewAfter(node: NodePlan, ms: number): void {
    if (this.#closed) return;
    const retry = 5000;
    const timer = this.#options.clock.after(Math.max(ms, retry), () => {
      this.#renewToken(node).catch(() => this.#renewAfter(node, retry));
    });
    this.#renewals.set(node, timer);
  }
}
