// Connections to endpoints, kept for the next request. An HTTP/1.1 connection serves one request at a time and waits here between
// them, HTTP/2 connections take many at once (shared.ts).
import { MeshError } from '#shared/errors.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { H1Client, type H1ClientDeps } from '../http/h1-client.ts';
import type { ClientConnection } from '../http/message.ts';
import { IDLE_MS, Kept } from './kept.ts';
import { type SharedDeps, SharedConnections } from './shared.ts';

export interface PoolDeps extends H1ClientDeps, SharedDeps {}

const MAX_IDLE_PER_KEY = 128;

export class ConnectionPool {
  readonly #deps: PoolDeps;
  /** HTTP/1.1 connections that wait for a request, by key. */
  readonly #idle = new Map<string, Kept[]>();
  readonly #http2 = new Map<string, SharedConnections>();
  readonly #open = new Set<ClientConnection>();
  #closed = false;

  constructor(deps: PoolDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#open.size;
  }

  /** A connection that takes a request now, or a promise of one. `dial` makes the byte stream when there is none. */
  acquire(key: string, http2: boolean, dial: () => Promise<ByteStream>): ClientConnection | Promise<ClientConnection> {
    if (this.#closed) return Promise.reject(new MeshError('draining', 'this proxy is shutting down'));
    return http2 ? this.#shared(key).acquire(dial) : (this.#takeIdle(key) ?? this.#dialOwn(key, dial));
  }

  /** Closes what waits; connections in use end with their requests. */
  close(): void {
    this.#closed = true;
    for (const list of this.#idle.values()) for (const { connection } of list) connection.close();
    this.#idle.clear();
  }

  /** The one used last: the others may then grow old and go. */
  #takeIdle(key: string): ClientConnection | undefined {
    const list = this.#idle.get(key);
    for (let kept = list?.pop(); kept; kept = list?.pop()) {
      kept.deadline = Infinity;
      if (kept.connection.usable) return kept.connection;
    }
    return undefined;
  }

  async #dialOwn(key: string, dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    const stream = await dial();
    const connection: H1Client = new H1Client(stream, this.#deps, () => this.#onChange(key, kept));
    const kept = new Kept(connection);
    this.#deps.expiry.add(kept);
    this.#open.add(connection);
    return connection;
  }

  #shared(key: string): SharedConnections {
    let shared = this.#http2.get(key);
    if (!shared) {
      shared = new SharedConnections(this.#deps, this.#open, () => void this.#http2.delete(key));
      this.#http2.set(key, shared);
    }
    return shared;
  }

  /** An HTTP/1.1 connection became free, or closed. */
  #onChange(key: string, kept: Kept): void {
    const { connection } = kept;
    if (!connection.usable) {
      this.#open.delete(connection);
      this.#deps.expiry.delete(kept);
      return this.#forgetIdle(key, kept);
    }
    if (connection.available === 0) return;
    let list = this.#idle.get(key);
    if (!list) this.#idle.set(key, (list = []));
    if (this.#closed || list.length >= MAX_IDLE_PER_KEY) return connection.close();
    this.#deps.expiry.set(kept, IDLE_MS);
    list.push(kept);
  }

  #forgetIdle(key: string, kept: Kept): void {
    const list = this.#idle.get(key);
    const index = list?.indexOf(kept) ?? -1;
    if (!list || index === -1) return;
    list.splice(index, 1);
    if (list.length === 0) this.#idle.delete(key);
  }
}
