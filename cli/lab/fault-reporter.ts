// Tells of every fault of the configuration once: those of files, which the lab sees itself, and references to nothing, which the
// control plane finds.
import type { Clock, Timer } from '#shared/clock.ts';
import { controlPlaneGet } from './control-plane.ts';

/** Milliseconds after a change until the control plane has looked at it. */
const SETTLED = 600;

export class FaultReporter implements Disposable {
  #told = new Set<string>();
  #timer: Timer | undefined;
  #runDir: string;
  #clock: Clock;
  #tell: (line: string) => void;

  constructor(runDir: string, clock: Clock, tell: (line: string) => void) {
    this.#runDir = runDir;
    this.#clock = clock;
    this.#tell = tell;
  }

  /** All faults of one origin as they are now: one that was mended is told of again when it comes back. */
  report(origin: string, lines: readonly string[]): void {
    const now = new Set(lines.map((line) => `${origin} ${line}`));
    for (const known of this.#told) if (known.startsWith(`${origin} `) && !now.has(known)) this.#told.delete(known);
    for (const line of lines) {
      const known = ['files', 'controlplane'].some((other) => this.#told.has(`${other} ${line}`));
      this.#told.add(`${origin} ${line}`);
      if (!known) this.#tell(line);
    }
  }

  /** Objects have changed: asks the control plane for its view of them soon. */
  changed(): void {
    this.#timer ??= this.#clock.after(SETTLED, () => {
      this.#timer = undefined;
      // A control plane that is away is told of by its supervisor; it is asked again at the next change.
      this.#ask().catch(() => {});
    });
  }

  async #ask(): Promise<void> {
    const faults = JSON.parse(await controlPlaneGet(this.#runDir, '/debug/faults')) as { line: string }[];
    this.report(
      'controlplane',
      faults.map(({ line }) => line),
    );
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }
}
