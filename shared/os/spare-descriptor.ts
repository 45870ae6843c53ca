// A descriptor kept back for the moment at which no other is left: given up for one accept(2), so that the peer at the head of a queue can
// be refused. Without it the queue would stay full, and its listener ready in every turn.
import { closeSync, openSync } from 'node:fs';

export class SpareDescriptor {
  #fd: number | undefined = take();

  /** Runs `use` with one descriptor free; whatever it opened must be closed when it returns. False when there was none to give. */
  lend(use: () => void): boolean {
    this.#fd ??= take();
    if (this.#fd === undefined) return false;
    closeSync(this.#fd);
    this.#fd = undefined;
    use();
    this.#fd = take();
    return true;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Undefined when there is none at this time. */
function take(): number | undefined {
  try {
    return openSync('/dev/null', 'r');
  } catch {
    return undefined;
  }
}
