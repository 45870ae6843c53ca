// Our HTTP/2 sessions over plain sockets on loopback, for tests with foreign peers.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { systemClock } from '#shared/clock.ts';
import { header, type HeaderList } from '#shared/http2/headers.ts';
import { type Http2Options, Http2Session } from '#shared/http2/session.ts';
import type { Http2Stream } from '#shared/http2/stream.ts';
import type { CloseReason } from '#shared/reactor/api.ts';
import { socketStream } from './stream-pair.ts';

type Options = Partial<Omit<Http2Options, 'role'>>;

export interface OurServer extends AsyncDisposable {
  readonly port: number;
  readonly sessions: Http2Session[];
  readonly closes: CloseReason[];
}

/** Listens on a free port of loopback; each connection is a server session. */
export async function ourServer(onStream: (stream: Http2Stream) => void, options: Options = {}): Promise<OurServer> {
  const sessions: Http2Session[] = [];
  const closes: CloseReason[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const onClose = (reason: CloseReason): void => void closes.push(reason);
    sessions.push(new Http2Session(socketStream(socket), { clock: systemClock, onStream, onClose, ...options, role: 'server' }));
  });
  const port = await listening(server);
  return {
    port,
    sessions,
    closes,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A client session to a port of loopback. */
export async function ourClient(port: number, options: Options = {}): Promise<Http2Session> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  await once(socket, 'connect');
  return new Http2Session(socketStream(socket), { clock: systemClock, ...options, role: 'client' });
}

export interface Answer {
  head: HeaderList;
  body: Buffer;
  trailers: HeaderList | undefined;
  reason: CloseReason;
}

/** The whole response of a stream; rejects when it closes before one. */
export function answer(stream: Http2Stream): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onResponse = (head: HeaderList): void => {
      const chunks: Buffer[] = [];
      let trailers: HeaderList | undefined;
      stream.start({
        onData: (chunk) => void chunks.push(Buffer.from(chunk)),
        onTrailers: (list) => (trailers = list),
        onEnd: () => {},
        onDrain: () => {},
        onClose: (reason) => resolve({ head, body: Buffer.concat(chunks), trailers, reason }),
      });
    };
    stream.opener = { onResponse, onAbandoned: (reason) => reject(new Error(`no response: ${JSON.stringify(reason)}`)) };
  });
}

/** Writes all of `bytes` as fast as the stream takes them, then ends. Needs a started stream whose onDrain calls the result. */
export function writeAll(stream: Http2Stream, bytes: Uint8Array, trailers?: HeaderList): () => void {
  let at = 0;
  const go = (): void => {
    while (at < bytes.length) {
      const piece = bytes.subarray(at, (at += 50_000));
      if (!stream.write(piece)) return;
    }
    stream.endWith(trailers);
  };
  go();
  return go;
}

/** An echo: status 200, the request's headers as x-echo-*, its body, its trailers. */
export function echoStream(stream: Http2Stream): void {
  const echoed = stream.headers
    .filter(([name]) => !name.startsWith(':'))
    .map(([name, value]) => [`x-echo-${name}`, value] as const);
  stream.respond(200, [['x-path', header(stream.headers, ':path') ?? ''], ...echoed]);
  let trailers: HeaderList | undefined;
  stream.start({
    onData: (chunk) => {
      if (!stream.write(chunk)) stream.pause();
    },
    onTrailers: (list) => (trailers = list),
    onEnd: () => stream.endWith(trailers),
    onDrain: () => stream.resume(),
    onClose: () => {},
  });
}
