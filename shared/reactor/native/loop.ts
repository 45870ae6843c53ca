// The event loop of the native backend: one epoll instance per thread. It blocks for our descriptors and for Node's own loop at once, and
// hands the thread to Node when that has a timer, a message or anything else to run. Between turns promises run as they do in Node.
import { systemClock } from '../../clock.ts';
import { IdTable, nextId } from '../../collections/id-table.ts';
import type { Numbered } from '../../collections/id-table.ts';
import { MeshError } from '../../errors.ts';
import { Deadlines } from '../../lifecycle/deadlines.ts';
import { Epoll } from '../../os/epoll.ts';
import { EPOLL } from '../../os/layout.ts';
import { nodeLoop } from '../../os/node-loop.ts';
import { Slabs } from './slabs.ts';
import { warnOf } from '../fault.ts';

/** Bytes that one read(2) may take: enough for bulk data, and no connection holds the others up for longer than this takes. */
const READ_SIZE = 1024 * 1024;
/** Bytes that all connections may read in one turn, shared by those that are ready: a turn is what each of them waits for. */
const TURN_BUDGET = 1024 * 1024;
/** A share smaller than this costs more turns than it saves time. */
const SMALLEST_SHARE = 64 * 1024;
/** The id of Node's loop among the watched. */
const NODE = 0;
const LONGEST_TIMER = 0x7fffffff;
/**
 * Milliseconds in which a paused reader may still take what came before a reset. One that is slow, and not stalled, takes some of it by then:
 * what was sent on of the last read (512 KiB) needs as long at 140 kbit/s.
 */
const PATIENCE = 30_000;

export interface Watch extends Numbered {
  /** From newId(), and that of one watch at a time. */
  readonly id: number;
  /** `mask` has the EPOLL bits. */
  onEvents(mask: number): void;
  /** onEvents() threw: ends what is watched, and nothing else; returns the error with its name, to be reported. */
  onFault(thrown: unknown): MeshError;
}

let ofThread: Loop | undefined;

/** The loop of this thread, which all of its reactors share: while one loop blocked, no other one could run. */
export function threadLoop(): Loop {
  ofThread ??= new Loop();
  return ofThread;
}

export class Loop {
  /** Where connections read to when their handler names no place. Valid during one callback. */
  readonly scratch = Buffer.alloc(READ_SIZE);
  /** Told of every fault of a handler. */
  readonly faultListeners = new Set<(error: MeshError) => void>();
  readonly slabs = new Slabs();
  /** Connections that are broken, and paused: nothing else comes to tell them so. */
  readonly hungUp = new Deadlines(systemClock, PATIENCE);
  /** So often it has waited for events: of an idle loop a few a minute, when Node's timers are due. */
  turns = 0;
  readonly #epoll = new Epoll();
  readonly #node = nodeLoop();
  readonly #watches = new IdTable<Watch>();
  readonly #dispatch = (id: number, mask: number): void => {
    if (id === NODE) {
      this.#nodeIsDue = true;
      return;
    }
    const watch = this.#watches.get(id);
    try {
      watch?.onEvents(mask);
    } catch (thrown) {
      if (watch) this.report(watch.onFault(thrown));
    }
  };
  #ledger: Uint8Array | undefined;
  /** Set while anything is watched: keeps the thread alive, and tells libuv that there is something to wait for. */
  #alive: NodeJS.Timeout | undefined;
  #nodeIsDue = false;
  #running = false;
  #deferred: (() => void)[] = [];

  constructor() {
    this.#epoll.add(this.#node.fd, NODE, EPOLL.IN);
  }

  /** Of nothing that is watched. */
  newId(): number {
    let id = nextId();
    while (id === NODE || this.#watches.get(id)) id = nextId();
    return id;
  }

  /** Watches a descriptor until unwatch(). While anything is watched the thread stays alive. */
  watch(fd: number, mask: number, watch: Watch): void {
    this.#epoll.add(fd, watch.id, mask);
    this.#watches.add(watch);
    this.#alive ??= setInterval(() => undefined, LONGEST_TIMER);
    this.#run();
  }

  /** From now on notes the thread's descriptors, its own one too. */
  noteIn(ledger: Uint8Array): void {
    this.#ledger = ledger;
    this.own(this.#epoll.fd);
  }

  /** A descriptor is this thread's until disown(), watched or not: who survives the thread closes it. */
  own(fd: number): void {
    if (this.#ledger) this.#ledger[fd] = 1;
  }

  /** Before it is closed or given away: the number may be another thread's at once. */
  disown(fd: number): void {
    if (this.#ledger) this.#ledger[fd] = 0;
  }

  change(fd: number, { id }: Watch, mask: number): void {
    this.#epoll.modify(fd, id, mask);
  }

  /** Hands what is watched over to another watch of the same id, as it is. */
  pass(from: Watch, to: Watch): void {
    this.#watches.delete(from);
    this.#watches.add(to);
  }

  /** From now on nothing is told of the descriptor, events already fetched included. `closing`: close(2) follows, which ends it for epoll. */
  unwatch(fd: number, watch: Watch, closing = false): void {
    if (!this.#watches.delete(watch)) return;
    if (!closing) this.#epoll.remove(fd);
    if (this.#watches.size > 0) return;
    clearInterval(this.#alive);
    this.#alive = undefined;
  }

  /** A fault of a handler, which ended its connection only: told to whoever listens, and to Node's warnings when nobody does. */
  report(error: MeshError): void {
    if (this.faultListeners.size === 0) warnOf(error);
    for (const listener of this.faultListeners) listener(error);
  }

  /** Runs a task at the end of this turn, or of the next one: never inside the call that asked for it. What it throws is reported. */
  defer(task: () => void): void {
    this.#deferred.push(task);
    this.#run();
  }

  /** Bytes that one connection may read in this turn. */
  get readShare(): number {
    return Math.max(SMALLEST_SHARE, Math.min(READ_SIZE, Math.floor(TURN_BUDGET / this.#epoll.ready)));
  }

  /** Goes on after Node had its turn, unless that is under way. An error of a promise leaves through Node's own handling of errors. */
  #run(): void {
    if (this.#running) return;
    this.#running = true;
    setImmediate(() => {
      settleImmediates();
      try {
        while (this.#turn()) runTicks();
      } finally {
        this.#running = false;
        if (this.#hasWork()) this.#run();
      }
    });
  }

  /** False when the thread is Node's: it has something to run, or there is nothing left for us. */
  #turn(): boolean {
    this.turns += 1;
    const timeout = this.#node.timeout();
    this.#nodeIsDue = timeout === 0;
    const mayBlock = this.#deferred.length === 0 && this.#watches.size > 0;
    const count = this.#epoll.wait(mayBlock ? timeout : 0, this.#dispatch);
    if (count === 0 && mayBlock) this.#nodeIsDue = true;
    // What events and their promises put off goes out in this turn.
    if (count > 0) runTicks();
    this.#runDeferred();
    return !this.#nodeIsDue && this.#hasWork();
  }

  #hasWork(): boolean {
    return this.#watches.size > 0 || this.#deferred.length > 0;
  }

  /** What the tasks themselves defer waits for the next turn, so that they cannot keep events out. */
  #runDeferred(): void {
    if (this.#deferred.length === 0) return;
    const tasks = this.#deferred;
    this.#deferred = [];
    for (const task of tasks)
      try {
        task();
      } catch (thrown) {
        this.report(MeshError.from(thrown));
      }
  }
}

/** What Node does whenever it comes back from a callback: ticks, promises, and rejections that nobody took. */
function runTicks(): void {
  (process as unknown as { _tickCallback(): void })._tickCallback();
}

/**
 * Node keeps its loop from blocking until all immediates have run, the one that is running included. One that is set and cleared makes
 * it look again: from here on its loop has an immediate to run only if there is another one.
 */
function settleImmediates(): void {
  clearImmediate(setImmediate(() => undefined));
}
