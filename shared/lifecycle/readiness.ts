// Ready means: nobody blocks any more. Each part of a start-up holds a named blocker, and /healthz/ready lists what is pending.

/** The named blockers of one process. */
export class Readiness {
  #blockers = new Map<string, number>();
  #waiters: (() => void)[] = [];

  /** `using task = readiness.block('xds')`: not ready until the task is disposed. The same name may be held more than once. */
  block(name: string): Disposable {
    this.#blockers.set(name, (this.#blockers.get(name) ?? 0) + 1);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#release(name);
      },
    };
  }

  get ready(): boolean {
    return this.#blockers.size === 0;
  }

  /** Names of what is still awaited, sorted. */
  get pending(): string[] {
    return [...this.#blockers.keys()].sort();
  }

  /** Resolves when nothing blocks; at once when nothing does now. */
  async whenReady(): Promise<void> {
    if (this.ready) return;
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  #release(name: string): void {
    const left = (this.#blockers.get(name) ?? 1) - 1;
    if (left > 0) this.#blockers.set(name, left);
    else this.#blockers.delete(name);
    if (this.ready) for (const wake of this.#waiters.splice(0)) wake();
  }
}
