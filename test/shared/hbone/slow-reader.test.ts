// An application that reads slowly gets all that was sent to it, though the tunnel's connection ends before it has; one that is not there keeps nothing.
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { ConnectionPool } from '#shared/hbone/pool.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import type { ByteStream, CloseReason, TlsConn } from '#shared/reactor/api.ts';
import { BACKENDS, createReactor } from '#shared/reactor/create.ts';
import { client, mesh, read, server, until } from '../../harness/hbone.ts';
import { frame, HeaderMaker, OPENING, uint32 } from '../../harness/raw-http2.ts';
import { streamPair } from '../../harness/stream-pair.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const nothing = (): void => undefined;
const ADDRESS = { ip: '10.0.0.9', port: 80 };
/** How long a reader stands still, ms. */
const STILL = 200;

/** Reads nothing until `go()`. */
class SlowReader {
  got = 0;
  ended = false;
  reason: CloseReason | undefined;
  readonly #stream: ByteStream;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    stream.start({
      onData: (chunk) => (this.got += chunk.length),
      onEnd: () => (this.ended = true),
      onDrain: nothing,
      onClose: (reason) => (this.reason = reason),
    });
    stream.pause();
  }

  async go(): Promise<unknown[]> {
    this.#stream.resume();
    await until(() => this.reason !== undefined);
    return [this.got, this.ended, this.reason];
  }
}

for (const backend of BACKENDS) {
  test(`${backend}: all of what a server sent whose ztunnel then drains`, async (t) => {
    let there: CloseReason | undefined;
    const serve = (tunnel: IncomingTunnel): void => {
      const stream = tunnel.accept([]);
      const answer = (): void => {
        stream.write(Buffer.alloc(200_000));
        stream.end();
      };
      stream.start({ onData: nothing, onEnd: answer, onDrain: nothing, onClose: (reason) => (there = reason) });
    };
    const { pool, request, sessions } = await mesh(t, serve, { backend });
    const { stream } = await pool.open(request);
    const reader = new SlowReader(stream);
    stream.write(Buffer.from('GET'));
    stream.end();
    await until(() => there !== undefined);
    t.same(there, { kind: 'ended' });
    void sessions[0]?.drain();
    await sleep(STILL);
    t.same(await reader.go(), [200_000, true, { kind: 'ended' }]);
  });

  test(`${backend}: all of an upload beyond a network gateway, to an application that answered before it has read it`, async (t) => {
    const ca = createTestCa();
    const reactor = createReactor({ backend });
    t.teardown(() => reactor.close());
    const options = { certificate: ca.issue(server), alpn: ['h2'], verifyPeer: nothing };
    let reader: SlowReader | undefined;
    const application = (tunnel: IncomingTunnel): void => {
      const stream = tunnel.accept([]);
      reader = new SlowReader(stream);
      stream.write(Buffer.from('taken'));
      stream.end();
    };
    const beyond = async (tunnel: IncomingTunnel): Promise<void> => {
      const tls = await reactor.tlsServerOver(tunnel.accept([]), ADDRESS, ADDRESS, options);
      serveHbone(tls, { reactor, clock: systemClock }, application);
    };
    const gateway = async (conn: Parameters<typeof reactor.tlsServer>[0]): Promise<void> => {
      const tls = await reactor.tlsServer(conn, options);
      serveHbone(tls, { reactor, clock: systemClock }, (tunnel) => void beyond(tunnel));
    };
    const listener = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => void gateway(conn));
    const pool = new ConnectionPool({ reactor, clock: systemClock, certificates: { get: async (id) => ca.issue(id) } });
    t.teardown(() => pool.close());
    const peer = { source: client, accepted: [server], to: listener.address, sourceIp: '10.0.0.1' };
    const outer = { peer, authority: 'shop.example:80', headers: [], socket: {} };
    const { stream } = await pool.openThrough(outer, { accepted: [server], headers: [] });
    const over = read(stream);
    stream.write(Buffer.alloc(150_000));
    stream.end();
    t.same(await over, { bytes: Buffer.from('taken'), reason: { kind: 'ended' } });
    await sleep(STILL);
    t.same(await reader?.go(), [150_000, true, { kind: 'ended' }]);
  });
}

for (const more of [[], [uint32(0)]])
  test(`tunnels that are refused after all was said are over${more.length > 0 ? ', also those whose peer wants no more' : ''}`, async (t) => {
    const [ours, theirs] = streamPair({});
    const tunnels: IncomingTunnel[] = [];
    theirs.start({ onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing });
    const deps = { reactor: { defer: (task: () => void) => void setImmediate(task) }, clock: systemClock, maxStreams: 1 };
    serveHbone(ours as unknown as TlsConn, deps, (tunnel) => void tunnels.push(tunnel));
    theirs.write(OPENING);
    const maker = new HeaderMaker();
    for (const id of [1, 3, 5, 7]) {
      const connect = maker.headers(id, [
        [':method', 'CONNECT'],
        [':authority', '10.0.0.9:80'],
      ]);
      const said = frame(FrameType.data, Flag.endStream, id, Buffer.from('GET / '));
      theirs.write(Buffer.concat([connect, said, ...more.map((code) => frame(FrameType.rstStream, 0, id, code))]));
      const known = tunnels.length;
      await until(() => tunnels.length > known);
      // The application could not be reached.
      tunnels.at(-1)?.refuse(503);
    }
    t.equal(tunnels.length, 4);
  });
