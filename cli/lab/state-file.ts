// Keeps lab.json up to date with what runs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#shared/clock.ts';
import type { MeshPrograms } from './mesh.ts';
import { FABRIC_ADDRESS } from './plan.ts';
import type { LabPlan } from './plan.ts';
import type { PodRunner } from './pod/runner.ts';
import { recordProcess, writeLabState } from './state.ts';
import type { LabPod, LabState, ProcessRecord } from './state.ts';
import type { Supervised } from './supervised.ts';

export interface StateFileOptions {
  plan: LabPlan;
  /** The user's objects. */
  folder: string;
  mesh: MeshPrograms;
  runners: () => readonly PodRunner[];
  clock: Clock;
}

/** Changes within this time are written together. Milliseconds. */
const PAUSE = 50;

export class StateFile {
  phase: LabState['phase'] = 'starting';
  #options: StateFileOptions;
  #own: ProcessRecord | undefined;
  #writing: Promise<void> | undefined;
  #again = false;
  #closed = false;

  constructor(options: StateFileOptions) {
    this.#options = options;
  }

  /** The control plane's root certificate; undefined before there is one. */
  get rootCert(): string | undefined {
    try {
      return readFileSync(join(this.#options.plan.runDir, 'controlplane', 'root-cert.pem'), 'utf8');
    } catch {
      return undefined;
    }
  }

  async start(): Promise<void> {
    this.#own = await recordProcess(process.pid);
    await this.save();
  }

  /** Resolves when the present state is in the file. */
  async save(): Promise<void> {
    if (this.#closed) return;
    this.#again = true;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
    await this.#writing;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await writeLabState(await this.#collect());
      const pause = Promise.withResolvers<void>();
      this.#options.clock.after(this.#closed ? 0 : PAUSE, pause.resolve);
      if (this.#again) await pause.promise;
    }
  }

  async #collect(): Promise<LabState> {
    const { plan, folder, mesh, runners } = this.#options;
    return {
      version: 1,
      id: plan.id,
      runDir: plan.runDir,
      objectDirs: [folder, join(plan.runDir, 'objects')],
      statusDir: join(plan.runDir, 'status'),
      phase: this.phase,
      lab: this.#own ?? { pid: process.pid, started: '' },
      fabric: { netns: plan.fabricNetns, address: FABRIC_ADDRESS },
      nodes: plan.nodes.map(({ name, netns, address, podCidr, dir }) => ({ name, netns, address, podCidr, uplink: 'eth0', dir })),
      system: await Promise.all(
        mesh.programs.map(async ({ program, process: supervised, log }) => ({
          name: program.name,
          ...(program.node && { node: program.node.name }),
          netns: program.netns,
          state: supervised.state.t,
          log,
          restarts: supervised.restarts,
          ...(await recordOf(supervised)),
        })),
      ),
      pods: await Promise.all(runners().map(podRecord)),
    };
  }
}

async function podRecord(runner: PodRunner): Promise<LabPod> {
  return {
    namespace: runner.pod.metadata.namespace,
    name: runner.pod.metadata.name,
    node: runner.node.name,
    dir: runner.dir,
    ...(runner.netns !== undefined && { netns: runner.netns }),
    containers: await Promise.all(
      runner.containers.map(async ({ container, process: supervised }) => ({
        name: container.name,
        log: join(runner.dir, `${container.name}.log`),
        ...(await recordOf(supervised)),
      })),
    ),
  };
}

async function recordOf({ state }: Supervised): Promise<{ process?: ProcessRecord }> {
  const record = state.t === 'running' ? await recordProcess(state.pid) : undefined;
  return record ? { process: record } : {};
}
