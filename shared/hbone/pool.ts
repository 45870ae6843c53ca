// HBONE connections that tunnels share. A tunnel goes on a connection of its key with a free slot; else one connect is made, and all
// who wait for that key share its outcome. Slots of ended tunnels are used again (facts: ztunnel 6).
import { formatHostPort } from '../address.ts';
import { nextId } from '../collections/id-table.ts';
import type { Timer } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { CancelSignal } from '../lifecycle/cancel.ts';
import type { CloseReason, PeerCertificate } from '../reactor/api.ts';
import { atAge } from './age.ts';
import type { HbonePool, InnerTunnel, OpenTunnel, PeerKey, Tunnel } from './api.ts';
import {
  dialHbone,
  dialHboneOver,
  type HboneConnection,
  type HboneClientOptions,
  type HboneDeps,
  NotProcessed,
} from './client.ts';

export interface PoolOptions extends Omit<HboneClientOptions, 'onChange' | 'onClose'> {
  /** Tunnels on one connection at a time; the peer's own limit also holds. Default 100. */
  maxStreams?: number;
  /** Milliseconds without a tunnel until a connection is closed. Default 5 minutes. */
  idleTimeout?: number;
  /** Connections kept; beyond that the one used longest ago takes no more tunnels. Default 500. */
  capacity?: number;
  /** Milliseconds after which a connection takes no more tunnels. Default: never. */
  maxAge?: number;
  events?: PoolEvents;
}

/** For metrics; none is called from inside open(). */
export interface PoolEvents {
  /** `ms`: TCP and TLS together. */
  onConnected?(peer: PeerKey, ms: number): void;
  onConnectFailed?(peer: PeerKey, error: MeshError): void;
  onClosed?(peer: PeerKey, reason: CloseReason): void;
}

/** How often a tunnel that a peer did not process is tried on another connection: peers that restart one after the other are no error. */
const RETRIES = 8;

interface Entry {
  readonly key: string;
  readonly connection: HboneConnection;
  idle: Timer | undefined;
  /** The peer has dealt with a tunnel on it. */
  proved: boolean;
  /** When a tunnel was last put on it, counted in tunnels. */
  used: number;
  aged?: Timer;
}

export class ConnectionPool implements HbonePool {
  #deps: HboneDeps;
  #options: PoolOptions;
  #maxStreams: number;
  /** Connections that may take tunnels, by key. */
  #byKey = new Map<string, Set<Entry>>();
  /** The same ones. */
  #entries = new Set<Entry>();
  #uses = 0;
  /** All that are not closed yet. */
  #open = new Set<HboneConnection>();
  #connecting = new Map<string, Promise<void>>();
  #state: 'open' | 'draining' | 'closed' = 'open';

  constructor(deps: HboneDeps, options: PoolOptions = {}) {
    this.#deps = deps;
    this.#options = options;
    this.#maxStreams = options.maxStreams ?? 100;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Tunnels now open over all connections. */
  get streams(): number {
    let streams = 0;
    for (const connection of this.#open) streams += connection.streams;
    return streams;
  }

  async open(request: OpenTunnel): Promise<Tunnel> {
    const key = poolKey(request.peer);
    const refused = new Set<Entry>();
    for (;;) {
      if (request.cancel?.reason) throw request.cancel.reason;
      if (this.#state !== 'open') throw new MeshError('draining', 'this proxy is shutting down and opens no new tunnels');
      const entry = this.#pick(key, refused);
      if (!entry) {
        await unlessCancelled(this.#connect(key, request), request.cancel);
        continue;
      }
      try {
        // From the pick to the request nothing else runs, so that nobody else takes the slot.
        const tunnel = await this.#use(entry).open(request.authority, request.headers, request.cancel, request.early);
        entry.proved = true;
        return tunnel;
      } catch (error) {
        if (!(error instanceof NotProcessed)) {
          entry.proved = true;
          throw error;
        }
        request.early?.notProcessed();
        // A peer that goes away is followed to the next one; one that stays, and takes not even one tunnel of a connection, takes none.
        const takesNone = entry.connection.usable && entry.connection.streams === 0 && !entry.proved;
        if (takesNone || refused.add(entry).size > RETRIES) throw error;
      }
    }
  }

  async openThrough(outer: OpenTunnel, { accepted, headers }: InnerTunnel): Promise<Tunnel> {
    const { peer, authority, cancel } = outer;
    const tunnel = await this.open(outer);
    const giveUp = { id: nextId(), onCancel: () => tunnel.stream.reset() };
    cancel?.add(giveUp);
    let opened = false;
    try {
      const inner: HboneConnection = await dialHboneOver(
        this.#deps,
        tunnel,
        { ...peer, accepted },
        {
          ...this.#options,
          onChange: () => {
            if (opened && inner.streams === 0) inner.drain();
          },
          onClose: () => this.#open.delete(inner),
        },
      ).catch((thrown: unknown) => {
        this.#options.events?.onConnectFailed?.({ ...peer, accepted }, MeshError.from(thrown, 'connect_failed'));
        throw thrown;
      });
      this.#open.add(inner);
      try {
        const answer = inner.open(authority, headers, cancel);
        opened = true;
        return await answer;
      } catch (error) {
        inner.close();
        throw error;
      }
    } catch (thrown) {
      tunnel.stream.reset();
      const { code, message } = cancel?.reason ?? MeshError.from(thrown, 'connect_failed');
      throw new MeshError(code, `beyond the network gateway: ${message}`, { cause: thrown });
    } finally {
      cancel?.delete(giveUp);
    }
  }

  review(refusal: (peer: PeerCertificate) => MeshError | undefined): void {
    for (const connection of this.#open) {
      const reason = refusal(connection.conn.peer);
      if (reason) connection.close(reason);
    }
  }

  drain(): void {
    if (this.#state === 'open') this.#state = 'draining';
    for (const entry of this.#entries) this.#retire(entry);
  }

  close(): void {
    this.#state = 'closed';
    for (const entry of this.#entries) this.#retire(entry);
    for (const connection of this.#open) connection.close();
  }

  /** Not one of those that `refused`, each of which would do so again. */
  #pick(key: string, refused: ReadonlySet<Entry>): Entry | undefined {
    for (const entry of this.#byKey.get(key) ?? []) {
      const { connection } = entry;
      if (!connection.usable) this.#retire(entry);
      else if (connection.available > 0 && connection.streams < this.#maxStreams && !refused.has(entry)) return entry;
    }
    return undefined;
  }

  #use(entry: Entry): HboneConnection {
    entry.idle?.cancel();
    entry.idle = undefined;
    entry.used = ++this.#uses;
    return entry.connection;
  }

  /** One connect per key at a time: whoever comes meanwhile waits for the same one, and fails with it. */
  #connect(key: string, request: OpenTunnel): Promise<void> {
    const running = this.#connecting.get(key);
    if (running) return running;
    const connect = this.#dial(key, request).finally(() => this.#connecting.delete(key));
    this.#connecting.set(key, connect);
    return connect;
  }

  async #dial(key: string, { peer, socket }: OpenTunnel): Promise<void> {
    const { clock } = this.#deps;
    const { events } = this.#options;
    const started = clock.monotonic();
    let entry: Entry | undefined;
    try {
      const connection: HboneConnection = await dialHbone(this.#deps, peer, socket, {
        ...this.#options,
        onChange: () => entry && this.#changed(entry),
        onClose: (reason) => {
          this.#open.delete(connection);
          if (entry) this.#retire(entry);
          events?.onClosed?.(peer, reason);
        },
      });
      this.#open.add(connection);
      if (this.#state === 'closed') connection.close();
      if (this.#state !== 'open') return connection.drain();
      entry = { key, connection, idle: undefined, proved: false, used: ++this.#uses };
      this.#add(entry);
      this.#limitAge(entry);
    } catch (error) {
      const failure = MeshError.from(error, 'connect_failed');
      events?.onConnectFailed?.(peer, failure);
      throw failure;
    }
    events?.onConnected?.(peer, clock.monotonic() - started);
  }

  #add(entry: Entry): void {
    const ofKey = this.#byKey.get(entry.key);
    if (ofKey) ofKey.add(entry);
    else this.#byKey.set(entry.key, new Set([entry]));
    this.#entries.add(entry);
    this.#changed(entry);
    if (this.#entries.size <= (this.#options.capacity ?? 500)) return;
    this.#retire(Array.from(this.#entries).reduce((oldest, one) => (one.used < oldest.used ? one : oldest)));
  }

  #limitAge(entry: Entry): void {
    const { maxAge } = this.#options;
    if (maxAge) entry.aged = atAge(this.#deps.clock, maxAge, () => this.#retire(entry));
  }

  /** Tunnels ended, or the peer changed its mind. */
  #changed(entry: Entry): void {
    if (!entry.connection.usable) return this.#retire(entry);
    if (entry.connection.streams > 0 || entry.idle) return;
    entry.idle = this.#deps.clock.after(this.#options.idleTimeout ?? 300_000, () => {
      entry.idle = undefined;
      if (entry.connection.streams === 0) this.#retire(entry);
    });
  }

  /** No new tunnels on it; it closes when the last one ends. */
  #retire(entry: Entry): void {
    entry.idle?.cancel();
    entry.idle = undefined;
    entry.aged?.cancel();
    this.#entries.delete(entry);
    const ofKey = this.#byKey.get(entry.key);
    ofKey?.delete(entry);
    if (ofKey?.size === 0) this.#byKey.delete(entry.key);
    entry.connection.drain();
  }
}

function poolKey(peer: PeerKey): string {
  const accepted = peer.accepted.length === 1 ? peer.accepted[0] : peer.accepted.toSorted().join(',');
  return `${peer.source}|${accepted}|${peer.sourceIp}|${formatHostPort(peer.to)}`;
}

/** The promise, or the reason of whatever cancels it when that comes first. */
function unlessCancelled<T>(promise: Promise<T>, cancel: CancelSignal | undefined): Promise<T> {
  if (!cancel) return promise;
  return new Promise((resolve, reject) => {
    const listener = { id: nextId(), onCancel: reject };
    cancel.add(listener);
    promise.then(resolve, reject).finally(() => cancel.delete(listener));
  });
}
