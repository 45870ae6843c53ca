// A kernel that has no room to watch one more descriptor (fs.epoll.max_user_watches, memory): what was to be watched fails, and nothing else.
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import { libc } from '#shared/os/syscalls.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { LOOPBACK, tcpPair, tlsOptions, useReactor } from './suite/pairs.ts';
import { createGuard, Recorder } from './suite/recorder.ts';
import { silentPeer } from './suite/sockets.ts';

const create = () => createReactor({ backend: 'native' });
const descriptors = (): number => readdirSync('/proc/self/fd').length;

/** From now on no descriptor can be watched, until the test ends or the result is called. */
function watchNothing(t: Test): () => void {
  const calls = { ...libc() };
  const restore = (): void => void Object.assign(libc(), calls);
  t.teardown(restore);
  libc().epoll_ctl = (epoll, operation, _fd, event) => calls.epoll_ctl(epoll, operation, -1, event);
  return restore;
}

// The promise was rejected when nobody had it yet, at the end of the timeout: that ended the process.
for (const side of ['tlsServer', 'tlsClient'] as const)
  t.test(`${side}: a handshake on a connection that cannot be watched is refused, and the process goes on`, async (t) => {
    const reactor = useReactor(t, create);
    const { client, server } = await tcpPair(reactor);
    const peer = new Recorder(client, createGuard()).start();
    const before = descriptors();
    const unhandled: unknown[] = [];
    const note = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', note);
    t.teardown(() => process.removeListener('unhandledRejection', note));
    const restore = watchNothing(t);
    const refused = reactor[side](server, { ...tlsOptions().server, timeout: 50 });
    restore();
    await t.rejects(refused, { code: 'tls_failure', message: /watch descriptor \d+: epoll_ctl: /u });
    t.match(await peer.closed, { kind: /reset|ended/u });
    await sleep(100);
    t.strictSame(unhandled, []);
    t.equal(descriptors(), before - 2, 'both ends are closed');
  });

t.test('a listener that cannot be watched leaves no descriptor', async (t) => {
  const reactor = useReactor(t, create);
  const before = descriptors();
  const restore = watchNothing(t);
  await t.rejects(
    reactor.listen({ address: LOOPBACK }, () => undefined),
    { message: /watch descriptor/u },
  );
  t.equal(descriptors(), before);
  restore();
});

t.test('a connect that cannot be watched leaves no descriptor, and nobody tells it anything', async (t) => {
  const reactor = useReactor(t, create);
  const { fd, to } = silentPeer(t, 'unwatched');
  const scope = new CancelScope();
  const restore = watchNothing(t);
  const connect = (): Promise<unknown> =>
    t.rejects(reactor.connect({ to, netns: fd, cancel: scope, timeout: 20 }), { message: /watch descriptor/u });
  // The first one also opens the way back from other namespaces.
  await connect();
  const before = descriptors();
  await connect();
  t.equal(descriptors(), before);
  restore();
  // Its number is another's by now.
  const { client, server } = await tcpPair(reactor);
  await sleep(50);
  const ends = [client, server].map((conn) => new Recorder(conn, createGuard()).start());
  ends[0]?.call((stream) => stream.write(Buffer.from('alive')));
  ends[0]?.call((stream) => stream.end());
  await ends[1]?.ended;
  t.equal(ends[1]?.bytes, 5);
});
