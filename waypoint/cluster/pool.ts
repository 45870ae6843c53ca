// Connections to endpoints, kept for the next request. An HTTP/1.1 connection serves one request at a time and waits here between
// them; an HTTP/2 connection stays and takes many.
import { MeshError } from '#shared/errors.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import type { Expiring, Expiry } from '../expiry.ts';
import { H1Client, type H1ClientDeps } from '../http/h1-client.ts';
import { H2Client, type H2Deps } from '../http/h2.ts';
import type { ClientConnection } from '../http/message.ts';

export interface PoolDeps extends H1ClientDeps, H2Deps {
  readonly expiry: Expiry;
}

/** Milliseconds that a connection waits for its next request: less than what common servers allow, so that they rarely close first. */
const IDLE_MS = 4000;
const MAX_IDLE_PER_KEY = 128;

export class ConnectionPool {
  readonly #deps: PoolDeps;
  /** HTTP/1.1 connections that wait for a request, by key. */
  readonly #idle = new Map<string, Kept[]>();
  readonly #shared = new Map<string, ClientConnection | Promise<ClientConnection>>();
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
    return http2 ? this.#acquireShared(key, dial) : (this.#takeIdle(key) ?? this.#dialOwn(key, dial));
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

  #acquireShared(key: string, dial: () => Promise<ByteStream>): ClientConnection | Promise<ClientConnection> {
    const known = this.#shared.get(key);
    if (known && (known instanceof Promise || (known.usable && known.available > 0))) return known;
    const connecting = this.#dialShared(key, dial);
    this.#shared.set(key, connecting);
    return connecting;
  }

  async #dialShared(key: string, dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    try {
      const connection: H2Client = new H2Client(await dial(), this.#deps, () => {
        if (connection.usable) return;
        this.#open.delete(connection);
        if (this.#shared.get(key) === connection) this.#shared.delete(key);
      });
      this.#open.add(connection);
      this.#shared.set(key, connection);
      return connection;
    } catch (error) {
      this.#shared.delete(key);
      throw error;
    }
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

/** An HTTP/1.1 connection with the time until when it waits for a request. */
class Kept implements Expiring {
  readonly connection: ClientConnection;
  deadline = Infinity;

  constructor(connection: ClientConnection) {
    this.connection = connection;
  }

  onDeadline(): void {
    this.connection.close();
  }
}
