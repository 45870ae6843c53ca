// Unix sockets that keep message boundaries and carry a descriptor: what ZDS speaks between the CNI agent and ztunnel.
import { chmodSync, lstatSync, renameSync, unlinkSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { MeshError } from '../errors.ts';
import { errorCode, systemError } from './errno.ts';
import { FdWatcher } from './fd-watcher.ts';
import { receiveMessage, sendMessage, type FdMessage } from './fd-message.ts';
import { AF, encodeUnixSockaddr, ERRNO, SHUT_RDWR, SOCK } from './layout.ts';
import { peerCredentials, type PeerCredentials } from './peer-credentials.ts';
import { check, errno, libc } from './syscalls.ts';

/** The longest message; a longer one is refused by send() and arrives as `truncated`. */
export const MAX_MESSAGE = 64 * 1024;
const BACKLOG = 16;
/** Milliseconds until the next try when accept(2) fails, which it does at the limit of open descriptors. */
const ACCEPT_PAUSE = 100;

export class SeqpacketConn {
  readonly #fd: number;
  readonly #path: string;
  readonly #watcher: FdWatcher;
  readonly #space = Buffer.alloc(MAX_MESSAGE);
  #sends: Promise<void> = Promise.resolve();
  #closed = false;

  /** Takes the descriptor over. `path` is for error texts. */
  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
    this.#watcher = new FdWatcher(fd);
  }

  get peer(): PeerCredentials {
    return peerCredentials(this.#fd);
  }

  /** The next message; undefined when the peer is gone or close() was called. One caller at a time. */
  async receive(): Promise<FdMessage | undefined> {
    while (!this.#closed) {
      const message = receiveMessage(this.#fd, this.#space);
      if (message === 0) return undefined;
      if (message !== -1) return message;
      const code = errno();
      if (code === ERRNO.EAGAIN) await this.#watcher.readable();
      // The peer has closed without reading all of ours. The kernel says so once, and before what the peer said last.
      else if (code !== ERRNO.EINTR && code !== ERRNO.ECONNRESET)
        throw systemError(`receive from ${this.#path}`, 'recvmsg', code);
    }
    return undefined;
  }

  /** Sends one message, after those sent before it. The descriptor stays the caller's, who keeps it open until this resolves. */
  send(data: Uint8Array, fd?: number): Promise<void> {
    const sent = this.#sends.then(() => this.#sendNow(data, fd));
    // A failed message fails its own caller; those after it try for themselves.
    this.#sends = sent.catch(() => undefined);
    return sent;
  }

  /** Safe to call twice. A waiting receive() resolves to undefined, a waiting send() rejects. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watcher.close();
    libc().shutdown(this.#fd, SHUT_RDWR);
    libc().close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #sendNow(data: Uint8Array, fd?: number): Promise<void> {
    if (data.length > MAX_MESSAGE)
      throw new MeshError('bad_request', `send to ${this.#path}: a message of ${data.length} bytes exceeds ${MAX_MESSAGE}`);
    while (!this.#closed) {
      if (sendMessage(this.#fd, data, fd) >= 0) return;
      const code = errno();
      if (code === ERRNO.EAGAIN) await this.#watcher.writable();
      else if (code !== ERRNO.EINTR) throw systemError(`send to ${this.#path}`, 'sendmsg', code);
    }
    throw new MeshError('reset', `send to ${this.#path}: this end is closed`);
  }
}

export interface SeqpacketListener {
  readonly path: string;
  /** Stops accepting and removes the socket file, unless names are taken over; open connections live on. Safe to call twice. */
  close(): void;
}

/** Connects to a listening socket; rejects with `connect_failed` or `not_found` when nobody listens there. */
export async function connectSeqpacket(path: string): Promise<SeqpacketConn> {
  const fd = unixSocket(`connect to ${path}`);
  try {
    connectUnix(fd, path);
    return new SeqpacketConn(fd, path);
  } catch (thrown) {
    libc().close(fd);
    throw thrown;
  }
}

export interface SeqpacketListenOptions {
  /**
   * Takes the path over from a process that still listens there. Its file stays after close(), where connections are refused then: another
   * process may be taking the path at that moment, and its file must not be the one that is removed.
   */
  readonly takeName?: boolean;
}

/**
 * Listens at a path, mode 0600. A socket file that nobody listens on any more is replaced; one in use is an error, unless its name is
 * taken over. onConn owns the connections it gets.
 */
export function listenSeqpacket(
  path: string,
  onConn: (conn: SeqpacketConn) => void,
  { takeName = false }: SeqpacketListenOptions = {},
): SeqpacketListener {
  const what = `listen on ${path}`;
  const draft = takeName ? `${path}.${process.pid}` : path;
  removeStale(draft, what);
  const fd = unixSocket(what);
  let inode: number;
  try {
    const address = encodeUnixSockaddr(draft);
    check(libc().bind(fd, address, address.length), what, 'bind');
    chmodSync(draft, 0o600);
    check(libc().listen(fd, BACKLOG), what, 'listen');
    inode = lstatSync(draft).ino;
    if (takeName) renameSync(draft, path);
  } catch (thrown) {
    libc().close(fd);
    throw thrown;
  }
  const watcher = new FdWatcher(fd);
  let closed = false;
  void acceptLoop(fd, path, watcher, onConn);
  return {
    path,
    close() {
      if (closed) return;
      closed = true;
      watcher.close();
      if (!takeName && lstatSync(path, { throwIfNoEntry: false })?.ino === inode) unlinkSync(path);
      libc().close(fd);
    },
  };
}

async function acceptLoop(fd: number, path: string, watcher: FdWatcher, onConn: (conn: SeqpacketConn) => void): Promise<void> {
  while (await watcher.readable()) {
    const accepted = libc().accept4(fd, null, null, SOCK.NONBLOCK | SOCK.CLOEXEC);
    if (accepted >= 0) onConn(new SeqpacketConn(accepted, path));
    // A peer that gave up while it waited is no concern of ours; without free descriptors the peers wait in the queue.
    else if (errno() !== ERRNO.EAGAIN) await setTimeout(ACCEPT_PAUSE);
  }
}

function unixSocket(what: string): number {
  return check(libc().socket(AF.UNIX, SOCK.SEQPACKET | SOCK.NONBLOCK | SOCK.CLOEXEC, 0), what, 'socket');
}

function connectUnix(fd: number, path: string): void {
  const address = encodeUnixSockaddr(path);
  check(libc().connect(fd, address, address.length), `connect to ${path}`, 'connect');
}

function removeStale(path: string, what: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const probe = unixSocket(what);
  try {
    connectUnix(probe, path);
  } catch (thrown) {
    if (errorCode(thrown) !== 'ECONNREFUSED') throw thrown;
    unlinkSync(path);
    return;
  } finally {
    libc().close(probe);
  }
  throw new MeshError('invalid_config', `${what}: another process listens there; stop it or choose another path`);
}
