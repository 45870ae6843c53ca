// Listening and connecting: addresses, refusals, deadlines, cancelling.
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import { MeshError } from '#shared/errors.ts';
import { MSG, SHUT_WR } from '#shared/os/layout.ts';
import { clientTcp, startConnect } from '#shared/os/socket-factory.ts';
import { libc } from '#shared/os/syscalls.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { createNetns } from '../../../harness/netns.ts';
import { LOOPBACK, tcpPair, useReactor, type ReactorFactory } from './pairs.ts';
import { createGuard, Recorder } from './recorder.ts';

export function socketSuite(t: Test, create: ReactorFactory): void {
  t.test('both ends know both addresses, IPv4 shown as IPv4', async (t) => {
    const reactor = useReactor(t, create);
    const accepted = Promise.withResolvers<Conn>();
    const listener = await reactor.listen({ address: { ip: '::', port: 0 } }, accepted.resolve);
    const client = await reactor.connect({ to: { ip: '127.0.0.1', port: listener.address.port } });
    const server = await accepted.promise;
    t.strictSame(server.local, client.remote);
    t.strictSame(server.remote, client.local);
    t.equal(server.local.ip, '127.0.0.1');
    t.strictSame(server.originalDestination(), server.local, 'no redirect: the local address');
  });

  t.test('IPv6', async (t) => {
    const reactor = useReactor(t, create);
    const accepted = Promise.withResolvers<Conn>();
    const listener = await reactor.listen({ address: { ip: '::1', port: 0 } }, accepted.resolve);
    const client = await reactor.connect({ to: listener.address });
    t.equal(client.remote.ip, '::1');
    t.strictSame((await accepted.promise).originalDestination(), listener.address);
  });

  t.test('a taken port is named', async (t) => {
    const reactor = useReactor(t, create);
    const { address } = await reactor.listen({ address: LOOPBACK }, () => undefined);
    await t.rejects(
      reactor.listen({ address }, () => undefined),
      {
        message: `listen on 127.0.0.1:${address.port}: bind: address already in use (EADDRINUSE)`,
      },
    );
  });

  t.test('SO_REUSEPORT lets two listeners share a port', async (t) => {
    const reactor = useReactor(t, create);
    const { address } = await reactor.listen({ address: LOOPBACK, reusePort: true }, () => undefined);
    await reactor.listen({ address, reusePort: true }, () => undefined);
  });

  // The end that had come too was told in place of the bytes behind the urgent one, and the peer got a reset.
  for (const starts of ['early', 'late'] as const)
    for (const parts of [['a', '!'], ['!', 'b'], ['a', '!', 'b'], ['!']])
      t.test(
        `"${parts.join('')}", of which ! is urgent, arrives but for that, and so does the end: ${starts} start`,
        async (t) => {
          const reactor = useReactor(t, create);
          const accepted = Promise.withResolvers<Conn>();
          const listener = await reactor.listen({ address: LOOPBACK }, accepted.resolve);
          const to = listener.address;
          const peer = clientTcp({ to });
          t.teardown(() => libc().close(peer));
          startConnect(peer, to);
          const reader = new Recorder(await accepted.promise, createGuard());
          let text = '';
          reader.onChunk = (chunk) => void (text += Buffer.from(chunk).toString());
          if (starts === 'early') reader.start();
          for (const part of parts) libc().send(peer, Buffer.from(part), 1, part === '!' ? MSG.OOB : 0);
          await sleep(20);
          const cpu = process.cpuUsage();
          await sleep(100);
          const { user, system } = process.cpuUsage(cpu);
          t.ok(user + system < 60_000, `${user + system} us of CPU in 100 ms in which nothing comes`);
          libc().shutdown(peer, SHUT_WR);
          await sleep(20);
          if (starts === 'late') reader.start();
          await reader.ended;
          reader.call((stream) => stream.end());
          t.strictSame(await reader.closed, { kind: 'ended' });
          t.equal(text, parts.join('').replace('!', ''));
          t.equal(libc().read(peer, Buffer.alloc(1), 1), 0, 'an end and no reset');
        },
      );

  t.test('a closed listener refuses, its connections live on', async (t) => {
    const reactor = useReactor(t, create);
    const accepted = Promise.withResolvers<Conn>();
    const listener = await reactor.listen({ address: LOOPBACK }, accepted.resolve);
    const client = new Recorder(await reactor.connect({ to: listener.address }), createGuard()).start();
    const server = new Recorder(await accepted.promise, createGuard()).start();
    listener.close();
    listener.close();
    await t.rejects(reactor.connect({ to: listener.address }), { code: 'connect_failed', message: /ECONNREFUSED/u });
    client.call((stream) => stream.write(Buffer.from('still here')));
    client.call((stream) => stream.end());
    await server.ended;
    t.equal(server.bytes, 10);
  });

  t.test('a connect without an answer times out', async (t) => {
    const reactor = useReactor(t, create);
    const { fd, to } = silentPeer(t, 'timeout');
    await t.rejects(reactor.connect({ to, netns: fd, timeout: 100 }), { code: 'connect_timeout', message: /100 ms/u });
  });

  t.test('a connect can be given up, before and during', async (t) => {
    const reactor = useReactor(t, create);
    const { fd, to } = silentPeer(t, 'abort');
    const scope = new CancelScope();
    const connecting = t.rejects(reactor.connect({ to, netns: fd, cancel: scope }), { code: 'draining' });
    await sleep(20);
    scope.cancel(new MeshError('draining', 'over'));
    await connecting;
    await t.rejects(reactor.connect({ to, netns: fd, cancel: scope }), { code: 'draining' });
  });

  t.test('close() ends listeners, connections and attempts', async (t) => {
    const reactor = useReactor(t, create);
    const { fd, to } = silentPeer(t, 'close');
    const { client, server } = await tcpPair(reactor);
    const recorders = [client, server].map((stream) => new Recorder(stream, createGuard()).start());
    const listener = await reactor.listen({ address: LOOPBACK }, () => undefined);
    const connecting = t.rejects(reactor.connect({ to, netns: fd }), { code: 'draining' });
    await sleep(20);
    reactor.close();
    await Promise.all(recorders.map((recorder) => recorder.closed));
    await connecting;
    const other = useReactor(t, create);
    await t.rejects(other.connect({ to: listener.address }), { code: 'connect_failed' });
    await t.rejects(reactor.connect({ to: listener.address }), { code: 'draining' });
  });

  // Nobody had the connection when everything was closed, and nobody closed it later.
  t.test('close() ends an attempt that has just been answered', async (t) => {
    const [reactor, other] = [useReactor(t, create), useReactor(t, create)];
    const { fd, to, answer } = silentPeer(t, 'answered');
    await other.listen({ address: to, netns: fd }, (conn) => void new Recorder(conn, createGuard()).start());
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    // Asked to forget the attempt when it is over, and ahead of whoever waits for it.
    const cancel = { reason: undefined, add: () => undefined, delete: () => process.nextTick(() => reactor.close()) };
    const connecting = t.rejects(reactor.connect({ to, netns: fd, cancel }), { code: 'draining' });
    await sleep(20);
    answer();
    await connecting;
    for (let tries = 0; tries < 100 && descriptors() > before; tries++) await sleep(10);
    // Fewer, where something of another test was still to be closed.
    t.ok(descriptors() <= before, `${descriptors()} descriptors, ${before} before: neither end is open`);
  });
}

/** An address where nobody answers, in a namespace that drops every SYN until `answer()`. */
export function silentPeer(t: Test, label: string): { fd: number; to: HostPort; answer: () => void } {
  const netns = createNetns(t, label);
  netns.nft('table inet quiet { chain in { type filter hook input priority 0; tcp dport 9 drop; }\n}');
  return { fd: netns.fd, to: { ip: '127.0.0.1', port: 9 }, answer: () => netns.nft('flush ruleset\n') };
}
