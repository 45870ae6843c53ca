// Connections to endpoints, kept for the next request. An HTTP/1.1 connection serves one request at a time and waits here between
// them; an HTTP/2 connection stays and takes many.
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { H1Client } from '../http/h1-client.ts';
import { H2Client } from '../http/h2.ts';
import type { ClientConnection } from '../http/message.ts';

export interface PoolDeps {
  readonly clock: Clock;
  readonly defer: (task: () => void) => void;
}

/** Milliseconds that a connection waits for its next request: less than what common servers allow, so that they rarely close first. */
const IDLE_MS = 4000;
const MAX_IDLE_PER_KEY = 128;

interface Idle {
  readonly connection: ClientConnection;
  readonly timer: Timer;
}

export class ConnectionPool {
  readonly #deps: PoolDeps;
  readonly #idle = new Map<string, Idle[]>();
  readonly #shared = new Map<string, Promise<ClientConnection>>();
  readonly #open = new Set<ClientConnection>();
  #closed = false;

  constructor(deps: PoolDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#open.size;
  }

  /** A connection that takes a request now. `dial` makes the byte stream when there is none. */
  acquire(key: string, http2: boolean, dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    if (this.#closed) return Promise.reject(new MeshError('draining', 'this proxy is shutting down'));
    return http2 ? this.#acquireShared(key, dial) : this.#acquireIdle(key, dial);
  }

  /** Closes what waits; connections in use end with their requests. */
  close(): void {
    this.#closed = true;
    for (const list of this.#idle.values())
      for (const { connection, timer } of list) {
        timer.cancel();
        connection.close();
      }
    this.#idle.clear();
  }

  async #acquireIdle(key: string, dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    const list = this.#idle.get(key);
    // The one used last: the others may then grow old and go.
    for (let idle = list?.pop(); idle; idle = list?.pop()) {
      idle.timer.cancel();
      if (idle.connection.usable) return idle.connection;
    }
    const connection: H1Client = new H1Client(await dial(), this.#deps.defer, () => this.#onChange(key, connection));
    this.#open.add(connection);
    return connection;
  }

  async #acquireShared(key: string, dial: () => Promise<ByteStream>): Promise<ClientConnection> {
    const known = this.#shared.get(key);
    const existing = known && (await known.catch(() => undefined));
    if (existing?.usable && existing.available > 0) return existing;
    const connecting = dial().then((stream) => {
      const connection: H2Client = new H2Client(stream, this.#deps, () => {
        if (!connection.usable) this.#open.delete(connection);
      });
      this.#open.add(connection);
      return connection;
    });
    this.#shared.set(key, connecting);
    connecting.catch(() => this.#forgetShared(key, connecting));
    return connecting;
  }

  #forgetShared(key: string, connecting: Promise<ClientConnection>): void {
    if (this.#shared.get(key) === connecting) this.#shared.delete(key);
  }

  /** An HTTP/1.1 connection became free, or closed. */
  #onChange(key: string, connection: ClientConnection): void {
    if (!connection.usable) {
      this.#open.delete(connection);
      return this.#forgetIdle(key, connection);
    }
    if (connection.available === 0) return;
    const list = this.#idle.get(key) ?? [];
    if (this.#closed || list.length >= MAX_IDLE_PER_KEY) return connection.close();
    const timer = this.#deps.clock.after(IDLE_MS, () => {
      this.#forgetIdle(key, connection);
      connection.close();
    });
    list.push({ connection, timer });
    this.#idle.set(key, list);
  }

  #forgetIdle(key: string, connection: ClientConnection): void {
    const list = this.#idle.get(key);
    const index = list?.findIndex((idle) => idle.connection === connection) ?? -1;
    if (!list || index === -1) return;
    list.splice(index, 1)[0]?.timer.cancel();
    if (list.length === 0) this.#idle.delete(key);
  }
}
