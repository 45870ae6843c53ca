// The sockets that a pod's questions arrive on, inside its network namespace: UDP and TCP, on the loopback address of each family.
import type { Socket as UdpSocket } from 'node:dgram';
import { createSocket } from 'node:dgram';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { HostPort } from '#shared/address.ts';
import type { Clock, Timer } from '#shared/clock.ts';
import { errorCode } from '#shared/os/errno.ts';
import { closeFd } from '#shared/os/netns.ts';
import { bindUdp, listenTcp } from '#shared/os/socket-factory.ts';
import { MeshError } from '#shared/errors.ts';
import { formatHostPort } from '#shared/address.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { SocketOptions } from '#shared/reactor/api.ts';
import type { Transport } from './exchange.ts';
import { framed, MessageReader } from './framing.ts';

const BACKLOG = 128;
/** TCP clients of one pod, and the questions that one of them may have under way. */
const MAX_CLIENTS = 128;
const MAX_PIPELINED = 64;
/** Questions over UDP that one pod may have under way; more are passed over, as a full socket would. */
const MAX_DATAGRAMS = 1024;
/** A pod's questions wait here while the thread is at a large push: about two thousand of them, taken up only as they come. */
const RECEIVE_BUFFER = 1024 * 1024;
/** Milliseconds that a TCP client may stay silent. */
const IDLE = 5000;

export interface DnsSocket {
  readonly transport: Transport;
  readonly fd: number;
  readonly address: HostPort;
}

export interface BindOptions extends Pick<SocketOptions, 'netns' | 'mark'> {
  readonly addresses: readonly HostPort[];
  readonly reusePort: boolean;
}

/** Binds all of them or none. IPv6 addresses of a namespace without IPv6 are left out. */
export function bindDns({ addresses, ...options }: BindOptions): DnsSocket[] {
  const bound: DnsSocket[] = [];
  try {
    for (const address of addresses) {
      try {
        bound.push({ transport: 'udp', ...bindUdp({ ...options, address, receiveBuffer: RECEIVE_BUFFER }) });
      } catch (thrown) {
        if (address.ip.includes(':') && ['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(errorCode(thrown))) continue;
        throw thrown;
      }
      bound.push({ transport: 'tcp', ...listenTcp({ ...options, address, backlog: BACKLOG }) });
    }
    return bound;
  } catch (thrown) {
    for (const { fd } of bound) closeFd(fd);
    throw thrown;
  }
}

/** The bytes to send back; undefined for nothing. Never rejects. */
export type Answer = (message: Buffer, transport: Transport) => Promise<Buffer | undefined>;

export interface DnsServerDeps {
  readonly answer: Answer;
  readonly clock: Clock;
  readonly log: Log;
}

/** Serves the questions of one pod. Owns its sockets. */
export class DnsServer {
  readonly #deps: DnsServerDeps;
  readonly #udp: UdpSocket[] = [];
  readonly #tcp: Server[] = [];
  readonly #clients = new Set<Socket>();
  #outstanding = 0;
  #datagrams = 0;
  #idle = Promise.withResolvers<void>();
  #stopping = false;
  #closed = false;

  constructor(sockets: readonly DnsSocket[], deps: DnsServerDeps) {
    this.#deps = deps;
    for (const socket of sockets) {
      if (socket.transport === 'udp') this.#udp.push(this.#serveUdp(socket));
      else this.#tcp.push(this.#serveTcp(socket));
    }
  }

  /** Ends when no question is under way, or after `deadline` ms. Safe to call twice. */
  async stop(deadline: number): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    for (const server of this.#tcp) server.close();
    if (this.#outstanding > 0 && deadline > 0) {
      const timer = this.#deps.clock.after(deadline, () => this.#idle.resolve());
      await this.#idle.promise;
      timer.cancel();
    }
    this.#closed = true;
    for (const socket of this.#udp) socket.close();
    for (const client of this.#clients) client.destroy();
  }

  #serveUdp({ fd, address }: DnsSocket): UdpSocket {
    const socket = createSocket(address.ip.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', (message, peer) => {
      if (this.#datagrams >= MAX_DATAGRAMS) return;
      this.#datagrams += 1;
      void this.#reply(message, 'udp', (reply) => {
        this.#datagrams -= 1;
        if (!reply || this.#closed) return;
        // A client that is gone does not want it any more.
        socket.send(reply, peer.port, peer.address, () => undefined);
      });
    });
    socket.on('error', (error) => this.#report(address, error));
    socket.bind({ fd });
    return socket;
  }

  #serveTcp({ fd, address }: DnsSocket): Server {
    const server = createServer((client) => this.#serveClient(client));
    server.on('error', (error) => this.#report(address, error));
    server.maxConnections = MAX_CLIENTS;
    server.listen({ fd });
    return server;
  }

  #serveClient(client: Socket): void {
    this.#clients.add(client);
    let timer: Timer | undefined;
    let pending = 0;
    const watch = (): void => {
      timer?.cancel();
      timer = pending > 0 ? undefined : this.#deps.clock.after(IDLE, () => client.destroy());
    };
    // Whoever asks on without waiting for answers, or without reading them, is held back by TCP.
    const pace = (): void => {
      const busy = (): boolean => pending >= MAX_PIPELINED || client.writableNeedDrain;
      if (reader.paused && !busy()) reader.resume();
      if (busy()) reader.pause();
      if (reader.paused) client.pause();
      else client.resume();
    };
    const reader = new MessageReader((message) => {
      pending += 1;
      if (pending >= MAX_PIPELINED) reader.pause();
      void this.#reply(message, 'tcp', (reply) => {
        pending -= 1;
        if (client.destroyed) return;
        if (reply) client.write(framed(reply));
        pace();
        watch();
      });
    });
    client.on('data', (chunk: Buffer) => {
      reader.read(chunk);
      pace();
      watch();
    });
    client.on('drain', () => {
      pace();
      watch();
    });
    client.on('error', () => undefined);
    client.on('close', () => {
      timer?.cancel();
      this.#clients.delete(client);
    });
    watch();
  }

  async #reply(message: Buffer, transport: Transport, send: (reply: Buffer | undefined) => void): Promise<void> {
    this.#outstanding += 1;
    const reply = await this.#deps.answer(message, transport);
    this.#outstanding -= 1;
    send(reply);
    if (this.#stopping && this.#outstanding === 0) this.#idle.resolve();
  }

  /** What the kernel tells of one client is no matter of the others. */
  #report(address: HostPort, error: Error): void {
    this.#deps.log.warn('a DNS socket had an error', { address: formatHostPort(address), error: MeshError.from(error) });
  }
}
