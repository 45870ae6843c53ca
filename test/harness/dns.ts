// DNS clients and name servers in the network namespaces of tests. They speak through another codec than ztunnel's.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import type { Packet, Question } from 'dns-packet';
import { decode, encode, RECURSION_DESIRED, streamDecode, streamEncode } from 'dns-packet';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { bindUdp, clientTcp, listenTcp } from '#shared/os/socket-factory.ts';

export const DNS_PROXY = { ip: '127.0.0.1', port: 15053 } as const;

export interface AskOptions {
  /** Bytes that EDNS says are welcome; without it there is no EDNS. */
  readonly payload?: number;
  readonly id?: number;
}

/** Asks over UDP from inside a namespace; rejects when nothing comes in `timeout` ms. */
export async function askUdp(
  netns: number,
  to: HostPort,
  question: Question,
  options: AskOptions = {},
  timeout = 15_000,
): Promise<Packet> {
  return decode(await exchangeUdp(netns, to, encode(queryOf(question, options)), timeout));
}

export async function exchangeUdp(netns: number, to: HostPort, message: Buffer, timeout = 15_000): Promise<Buffer> {
  const v6 = to.ip.includes(':');
  const socket = createSocket(v6 ? 'udp6' : 'udp4');
  socket.bind({ fd: bindUdp({ netns, address: { ip: v6 ? '::' : '0.0.0.0', port: 0 } }).fd });
  try {
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(timeout) });
    socket.send(message, to.port, to.ip);
    const [reply] = (await answer) as [Buffer];
    return reply;
  } finally {
    socket.close();
  }
}

/** Asks all questions over one TCP connection at once; the replies in the order of their coming. */
export async function askTcp(netns: number, to: HostPort, questions: readonly Question[]): Promise<Packet[]> {
  const socket = new Socket({ fd: clientTcp({ netns, to }) });
  try {
    socket.connect({ host: to.ip, port: to.port });
    await once(socket, 'connect');
    socket.write(Buffer.concat(questions.map((question, id) => streamEncode(queryOf(question, { id })))));
    const replies: Packet[] = [];
    let held = Buffer.alloc(0);
    while (replies.length < questions.length) {
      const [chunk] = (await once(socket, 'data', { signal: AbortSignal.timeout(15_000) })) as [Buffer];
      held = Buffer.concat([held, chunk]);
      while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        const end = 2 + held.readUInt16BE(0);
        replies.push(streamDecode(held.subarray(0, end)));
        held = held.subarray(end);
      }
    }
    return replies;
  } finally {
    socket.destroy();
  }
}

export function queryOf(question: Question, { payload, id = 4711 }: AskOptions = {}): Packet {
  return {
    type: 'query',
    id,
    flags: RECURSION_DESIRED,
    questions: [question],
    ...(payload === undefined ? {} : { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: payload, flags: 0 }] }),
  };
}

export interface NameServer {
  readonly address: HostPort;
  /** Questions that came, as `udp NAME TYPE`. */
  readonly asked: string[];
}

/** A name server at an address of a namespace, UDP and TCP; `undefined` answers nothing. */
export async function nameServer(
  t: Pick<Test, 'teardown'>,
  netns: number,
  ip: string,
  respond: (question: Question, transport: 'udp' | 'tcp') => Partial<Packet> | undefined,
): Promise<NameServer> {
  const asked: string[] = [];
  const answer = (query: Packet, transport: 'udp' | 'tcp'): Packet | undefined => {
    const question = query.questions?.[0];
    if (!question) return undefined;
    asked.push(`${transport} ${question.name} ${question.type}`);
    const reply = respond(question, transport);
    return reply && { id: query.id ?? 0, type: 'response', questions: [question], ...reply };
  };
  const address = { ip, port: 53 };
  const udp = createSocket(ip.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (message, peer) => {
    const reply = answer(decode(message), 'udp');
    if (reply) udp.send(encode(reply), peer.port, peer.address);
  });
  udp.bind({ fd: bindUdp({ netns, address }).fd });
  t.teardown(() => udp.close());
  const tcp = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      const reply = answer(streamDecode(chunk), 'tcp');
      if (reply) socket.write(streamEncode(reply));
    });
  });
  tcp.listen({ fd: listenTcp({ netns, address }).fd });
  t.teardown(() => tcp.close());
  await once(tcp, 'listening');
  return { address, asked };
}

/** The addresses of a reply, sorted. */
export function addresses({ answers = [] }: Packet): string[] {
  return answers
    .filter(({ type }) => type !== 'CNAME')
    .map(({ data }) => data)
    .toSorted();
}
