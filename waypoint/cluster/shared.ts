// The HTTP/2 connections to one endpoint. Each takes many requests at once; another one is made when all are full, and goes when it is
// no longer needed.
import type { ByteStream } from '#shared/reactor/api.ts';
import { type Expiry, IDLE_TIMEOUT_MS } from '../expiry.ts';
import { H2Client, type H2Deps } from '../http/h2.ts';
import type { ClientConnection } from '../http/message.ts';
import { IDLE_MS, Kept } from './kept.ts';

export interface SharedDeps extends H2Deps {
  readonly expiry: Expiry;
}

/** Requests that wait for one connection: what it takes before the backend has said how many it does (shared/http2/session.ts). */
const MAX_WAITING = 100;

export class SharedConnections {
  readonly #deps: SharedDeps;
  readonly #all: Set<ClientConnection>;
  readonly #onEmpty: () => void;
  /** The first one that has room is taken, so the others grow idle when there is less to do. */
  readonly #open: Kept<H2Client>[] = [];
  /** The connection on its way that still takes requests. */
  #next: Promise<ClientConnection> | undefined;
  /** Requests that wait for it. */
  #waiting = 0;
  #dialling = 0;

  /** `all`: open connections of any endpoint, kept up to date. `onEmpty`: nothing is left to keep. */
  constructor(deps: SharedDeps, all: Set<ClientConnection>, onEmpty: () => void) {
    this.#deps = deps;
    this.#all = all;
    this.#onEmpty = onEmpty;
  }

  /** A connection that takes a request now, or a promise of one. `dial` makes the byte stream when there is none. */
  acquire(dial: () => Promise<ByteStream>): ClientConnection | Promise<ClientConnection> {
    for (const kept of this.#open) {
      if (kept.connection.available === 0) continue;
      kept.deadline = Infinity;
      return kept.connection;
    }
    if (!this.#next || this.#waiting === MAX_WAITING) this.#next = this.#start(dial);
    this.#waiting += 1;
    return this.#next;
  }

  #start(dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    this.#waiting = 0;
    const next = this.#connect(dial).finally(() => {
      // Whoever comes from now on finds it open, or tries again.
      if (this.#next === next) this.#next = undefined;
    });
    return next;
  }

  async #connect(dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    this.#dialling += 1;
    try {
      const connection: H2Client = new H2Client(await dial(), this.#deps, () => this.#onChange(kept));
      const kept = new Kept(connection);
      this.#deps.expiry.add(kept);
      this.#open.push(kept);
      this.#all.add(connection);
      return connection;
    } finally {
      this.#dialling -= 1;
      this.#forgetIfEmpty();
    }
  }

  /** A request is over, or the connection is. */
  #onChange(kept: Kept<H2Client>): void {
    const { connection } = kept;
    if (!connection.usable) return this.#forget(kept);
    if (connection.idle) this.#deps.expiry.set(kept, kept === this.#open[0] ? IDLE_TIMEOUT_MS : IDLE_MS);
  }

  #forget(kept: Kept<H2Client>): void {
    const index = this.#open.indexOf(kept);
    if (index === -1) return;
    this.#open.splice(index, 1);
    this.#all.delete(kept.connection);
    this.#deps.expiry.delete(kept);
    this.#forgetIfEmpty();
  }

  #forgetIfEmpty(): void {
    if (this.#open.length === 0 && this.#dialling === 0) this.#onEmpty();
  }
}
