// The budget of memory of a proxy (MAX_MEMORY): while it is used up, new connections are refused in all threads and what is open goes on.
import { totalmem } from 'node:os';
import type { Clock } from '../clock.ts';
import { MemoryBudget } from './memory-budget.ts';
import { releaseAllMemory, releaseGarbage } from './start-memory.ts';
import { OwnMemory } from '../os/own-memory.ts';
import type { Log } from '../telemetry/log.ts';

/** Bytes that the container may have; undefined where nothing is said of it. Node tells a huge number then. */
export function memoryLimit(): number | undefined {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : undefined;
}

/** Of a limit of the kernel's, the rest is for the buffers of sockets, which count there too, and for what comes between two looks. */
const SHARE_OF_LIMIT = 0.8;

/** 0, none, without a limit. */
export function defaultBudget(limit = 0): number {
  return Math.floor(limit * SHARE_OF_LIMIT);
}

export interface MemoryWatchDeps {
  /** Bytes; 0: none. */
  readonly maxMemory: number;
  /** Its cell is 1 while memory is short (ConnectionLimit). */
  readonly short: Int32Array;
  /** Has its other threads collect garbage. */
  readonly plane: { collectGarbage(all: boolean): void };
  readonly clock: Clock;
  readonly log: Log;
}

/** Dispose to stop. Without a budget it does nothing. */
export function watchMemory({ maxMemory, short, plane, clock, log }: MemoryWatchDeps): Disposable {
  const held = new DisposableStack();
  if (maxMemory === 0) return held;
  const memory = held.use(new OwnMemory());
  held.use(
    new MemoryBudget({
      budget: maxMemory,
      used: () => memory.anonymous(),
      clock,
      collect(all) {
        plane.collectGarbage(all);
        (all ? releaseAllMemory() : releaseGarbage()).catch((thrown: unknown) =>
          log.warn('no garbage could be collected', { error: String(thrown) }),
        );
      },
      onChange(isShort, used) {
        Atomics.store(short, 0, isShort ? 1 : 0);
        if (isShort) log.warn('memory is short, new connections are refused', { used, max_memory: maxMemory });
        else log.info('there is memory again, new connections are taken', { used, max_memory: maxMemory });
      },
    }),
  );
  return held;
}
