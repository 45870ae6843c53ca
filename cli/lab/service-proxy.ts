// Applies the service rules to every node when they change.
import { MeshError } from '#shared/errors.ts';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import type { LabPlan } from './plan.ts';
import { run } from './run.ts';
import { serviceRules } from './service-rules.ts';

export class ServiceProxy {
  #plan: LabPlan;
  #warn: (message: string) => void;
  #applied = '';
  #wanted = '';
  #running: Promise<void> | undefined;

  constructor(plan: LabPlan, warn: (message: string) => void) {
    this.#plan = plan;
    this.#warn = warn;
  }

  /** Takes effect soon; changes that come while rules are being loaded are loaded together afterwards. */
  update(services: readonly Service[], pods: readonly Pod[]): void {
    this.#wanted = serviceRules(services, pods);
    this.#running ??= this.#catchUp().finally(() => {
      this.#running = undefined;
    });
  }

  /** Resolves when what was asked for is loaded. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #catchUp(): Promise<void> {
    while (this.#applied !== this.#wanted) {
      const text = this.#wanted;
      try {
        await Promise.all(this.#plan.nodes.map((node) => run(['nft', '-f', '-'], { netns: node.netns, input: text })));
      } catch (error) {
        this.#warn(`service rules: ${MeshError.from(error).message}`);
      }
      this.#applied = text;
    }
  }
}
