// The cluster's DNS server, on the fabric address: UDP and TCP.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { decode, encode, RECURSION_DESIRED, streamEncode } from 'dns-packet';
import type { Packet } from 'dns-packet';
import { closeFd, openNetns } from '#shared/os/netns.ts';
import { bindUdp, listenTcp } from '#shared/os/socket-factory.ts';
import { netnsPath } from '../run.ts';
import { answerQuestion } from './answer.ts';
import type { DnsTable } from './answer.ts';

const PORT = 53;
const AUTHORITATIVE = 1 << 10;
const NXDOMAIN = 3;
/** Simultaneous TCP clients, and milliseconds that one may stay silent. */
const MAX_CLIENTS = 100;
const IDLE = 5000;
const MAX_MESSAGE = 4096;

export interface DnsServer {
  close(): void;
}

/** `table` is asked for every question, so the newest objects always answer. */
export function startDns(netns: string, address: string, table: () => DnsTable): DnsServer {
  const ns = openNetns(netnsPath(netns));
  try {
    const where = { netns: ns, address: { ip: address, port: PORT } };
    const udp = createSocket({ type: 'udp4' });
    udp.on('message', (message, peer) => {
      const reply = respond(message, table());
      if (reply) udp.send(encode(reply), peer.port, peer.address, () => {});
    });
    udp.on('error', () => {});
    udp.bind({ fd: bindUdp(where).fd });
    const tcp = createServer((socket) => serveStream(socket, table));
    tcp.maxConnections = MAX_CLIENTS;
    tcp.listen({ fd: listenTcp(where).fd });
    return {
      close: () => {
        udp.close();
        tcp.close();
      },
    };
  } finally {
    closeFd(ns);
  }
}

function serveStream(socket: Socket, table: () => DnsTable): void {
  let held = Buffer.alloc(0);
  socket.setTimeout(IDLE, () => socket.destroy());
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const size = 2 + held.readUInt16BE(0);
      const reply = respond(held.subarray(2, size), table());
      if (!reply) return void socket.destroy();
      socket.write(streamEncode(reply));
      held = held.subarray(size);
    }
    if (held.length > MAX_MESSAGE) socket.destroy();
  });
}

/** Undefined for what is no question: it gets no answer. */
function respond(message: Buffer, table: DnsTable): Packet | undefined {
  let query: ReturnType<typeof decode>;
  try {
    query = decode(message);
  } catch {
    return undefined;
  }
  const question = query.questions?.[0];
  if (query.type !== 'query' || !question) return undefined;
  const { rcode, answers } = answerQuestion(table, question);
  return {
    type: 'response',
    id: query.id ?? 0,
    flags: AUTHORITATIVE | ((query.flags ?? 0) & RECURSION_DESIRED) | (rcode === 'NXDOMAIN' ? NXDOMAIN : 0),
    questions: [question],
    answers,
  };
}
