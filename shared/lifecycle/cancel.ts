// Ending early, for things that come by the thousand a second: connections, tunnels, connects. An AbortController with AbortSignal.any does
// the same with weak references and events, at more cost than all of the system calls of a connection together.
import { IdTable, nextId } from '../collections/id-table.ts';
import type { Numbered } from '../collections/id-table.ts';
import { MeshError } from '../errors.ts';

/** Hears of the end. A listener is called at most once, and never from inside add(). */
export interface CancelListener extends Numbered {
  onCancel(reason: MeshError): void;
}

/** Tells whether something must end, and why. */
export interface CancelSignal {
  /** Set from the moment of the end. */
  readonly reason: MeshError | undefined;
  /** The caller has asked for `reason` before: whoever comes after the end is not told. */
  add(listener: CancelListener): void;
  /** Safe to call for a listener that was told, or never added. */
  delete(listener: CancelListener): void;
}

/** One life that ends when somebody cancels it, or when one of those that it depends on ends. Dispose it when it is over by itself. */
export class CancelScope implements CancelSignal, CancelListener, Disposable {
  readonly id = nextId();
  #reason: MeshError | undefined;
  /** Nearly all scopes have one, and a table takes several times the memory of a scope. */
  #listener: CancelListener | undefined;
  #others: IdTable<CancelListener> | undefined;
  readonly #parent: CancelSignal | undefined;
  readonly #otherParent: CancelSignal | undefined;

  constructor(parent?: CancelSignal, otherParent?: CancelSignal) {
    this.#parent = parent;
    this.#otherParent = otherParent;
    this.#reason = parent?.reason ?? otherParent?.reason;
    parent?.add(this);
    otherParent?.add(this);
  }

  get reason(): MeshError | undefined {
    return this.#reason;
  }

  add(listener: CancelListener): void {
    if (this.#listener === listener || this.#others?.has(listener)) return;
    if (!this.#listener) this.#listener = listener;
    else (this.#others ??= new IdTable()).add(listener);
  }

  delete(listener: CancelListener): void {
    if (this.#listener === listener) this.#listener = undefined;
    this.#others?.delete(listener);
  }

  /** Only the first reason counts. What a listener throws is a warning of Node's: the others must end all the same. */
  cancel(reason: MeshError): void {
    if (this.#reason) return;
    this.#reason = reason;
    const first = this.#listener;
    this.#listener = undefined;
    if (first) tell(first, reason);
    // One that is told may take others away.
    for (const listener of this.#others?.all() ?? []) if (this.#others?.delete(listener)) tell(listener, reason);
  }

  onCancel(reason: MeshError): void {
    this.cancel(reason);
  }

  [Symbol.dispose](): void {
    this.#parent?.delete(this);
    this.#otherParent?.delete(this);
  }
}

function tell(listener: CancelListener, reason: MeshError): void {
  try {
    listener.onCancel(reason);
  } catch (thrown) {
    process.emitWarning(MeshError.from(thrown));
  }
}
