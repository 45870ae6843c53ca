// Namespaces and sockets made by hand: what the kernel says about them afterwards.
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { errorCode } from '#shared/os/errno.ts';
import { decodeSockaddr, encodeSockaddr, ERRNO, i32, IP, SO, SOL, TCP } from '#shared/os/layout.ts';
import { currentNetns, inNetns, netnsIdentity } from '#shared/os/netns.ts';
import { bindUdp, clientTcp, listenTcp, localAddress, startConnect } from '#shared/os/socket-factory.ts';
import { libc } from '#shared/os/syscalls.ts';
import { createNetns } from '../../harness/netns.ts';

function option(fd: number, level: number, name: number): number {
  const value = Buffer.alloc(4);
  t.equal(libc().getsockopt(fd, level, name, value, i32(4)), 0);
  return value.readInt32LE();
}

t.test('a namespace is entered for one call only, and left after a throw', async (t) => {
  const netns = createNetns(t, 'enter');
  const identity = (): string => {
    const fd = currentNetns();
    const text = netnsIdentity(fd);
    closeSync(fd);
    return text;
  };
  const home = identity();
  t.equal(inNetns(netns.fd, identity), netnsIdentity(netns.fd));
  t.not(netnsIdentity(netns.fd), home);
  t.throws(() => inNetns(netns.fd, () => JSON.parse('no')), SyntaxError);
  t.equal(identity(), home);
  t.equal(inNetns(undefined, identity), home);
  t.throws(() => inNetns(0, identity), { message: /enter the network namespace of descriptor 0/u });
});

t.test('mark, keep-alive and no-delay are set', async (t) => {
  const { fd } = listenTcp({
    address: { ip: '127.0.0.1', port: 0 },
    mark: 1337,
    keepalive: { time: 180_000, interval: 170_000, retries: 9 },
  });
  t.equal(option(fd, SOL.SOCKET, SO.MARK), 1337);
  t.equal(option(fd, SOL.SOCKET, SO.KEEPALIVE), 1);
  t.equal(option(fd, SOL.TCP, TCP.KEEPIDLE), 180);
  t.equal(option(fd, SOL.TCP, TCP.KEEPINTVL), 170);
  t.equal(option(fd, SOL.TCP, TCP.KEEPCNT), 9);
  t.equal(option(fd, SOL.TCP, TCP.NODELAY), 1);
  closeSync(fd);
});

t.test('the port of a socket that bears an address of its own is chosen when it is known where it connects to', async (t) => {
  for (const ip of ['127.0.0.1', '::1']) {
    const listener = listenTcp({ address: { ip, port: 0 } });
    const from = { ip, port: 0 };
    const fd = clientTcp({ to: listener.address, from });
    t.equal(option(fd, SOL.IP, IP.BIND_ADDRESS_NO_PORT), 1);
    t.strictSame(localAddress(fd), from, 'bound to the address, and to no port yet');
    startConnect(fd, listener.address);
    t.ok((localAddress(fd)?.port ?? 0) > 0, 'connect(2) chose one');
    const plain = clientTcp({ to: listener.address });
    t.equal(option(plain, SOL.IP, IP.BIND_ADDRESS_NO_PORT), 0, 'not set where nothing is bound');
    for (const own of [fd, plain, listener.fd]) closeSync(own);
  }
});

t.test('a connect within this machine is known to be over, or refused, at once', async (t) => {
  const listening = listenTcp({ address: { ip: '127.0.0.1', port: 0 } });
  const started = (to: { ip: string; port: number }): number => {
    const fd = clientTcp({ to });
    t.teardown(() => closeSync(fd));
    return startConnect(fd, to);
  };
  t.equal(started(listening.address), 0);
  closeSync(listening.fd);
  t.equal(started(listening.address), constants.errno.ECONNREFUSED);
});

t.test('a connect that nobody answers yet is under way', async (t) => {
  const netns = createNetns(t, 'silent');
  // An address of a network that is there, and of nobody in it.
  netns.exec('ip', 'link', 'add', 'there', 'type', 'veth', 'peer', 'name', 'nobody');
  netns.exec('ip', 'link', 'set', 'nobody', 'up');
  netns.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'there');
  netns.exec('ip', 'link', 'set', 'there', 'up');
  const to = { ip: '192.0.2.2', port: 80 };
  const fd = clientTcp({ to, netns: netns.fd });
  t.teardown(() => closeSync(fd));
  t.equal(startConnect(fd, to), ERRNO.EINPROGRESS);
});

t.test('UDP sockets of a namespace serve node:dgram', async (t) => {
  const netns = createNetns(t, 'udp');
  const { fd, address } = bindUdp({ netns: netns.fd, address: { ip: '127.0.0.1', port: 0 }, reusePort: true });
  const server = createSocket('udp4');
  server.bind({ fd });
  t.equal(server.address().port, address.port);
  const got = once(server, 'message');
  const client = createSocket('udp4');
  client.bind({ fd: bindUdp({ netns: netns.fd, address: { ip: '127.0.0.1', port: 0 } }).fd });
  client.send('question', address.port, address.ip);
  const [message] = (await got) as [Buffer];
  t.equal(message.toString(), 'question');
  server.close();
  client.close();
});

t.test('faults name what was tried and close the socket', async (t) => {
  const { fd, address } = listenTcp({ address: { ip: '::1', port: 0 } });
  t.strictSame(localAddress(fd), address);
  const attempt = (): unknown => listenTcp({ address });
  t.throws(attempt, { message: `listen on [::1]:${address.port}: bind: address already in use (EADDRINUSE)` });
  try {
    attempt();
  } catch (thrown) {
    t.equal(errorCode(thrown), 'EADDRINUSE');
  }
  t.throws(() => listenTcp({ address: { ip: 'nonsense', port: 1 } }), { code: 'invalid_config' });
  t.throws(
    () => clientTcp({ to: address, from: { ip: '127.0.0.1', port: 0 } }),
    { message: /from 127\.0\.0\.1/u },
    'mixed families',
  );
  closeSync(fd);
});

t.test('addresses survive the kernel form', async (t) => {
  for (const address of [
    { ip: '10.1.2.3', port: 80 },
    { ip: 'fd00::1', port: 65535 },
  ]) {
    const bytes = Buffer.alloc(28);
    bytes.set(encodeSockaddr(address));
    t.strictSame(decodeSockaddr(bytes), address);
  }
});

t.test('the limit of open descriptors is raised', async (t) => {
  // Node raises it at its start: it is lowered again from outside.
  const child = `
    import { execFileSync } from 'node:child_process';
    import { readFileSync } from 'node:fs';
    import { raiseOpenFileLimit } from ${JSON.stringify(new URL('../../../shared/os/rlimit.ts', import.meta.url).href)};
    const limits = () => /^Max open files +(\\d+) +(\\d+)/mu.exec(readFileSync('/proc/self/limits', 'utf8')).slice(1).map(Number);
    execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=1024:4096']);
    console.log(JSON.stringify({ before: limits(), raised: raiseOpenFileLimit(), after: limits() }));`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', child], { encoding: 'utf8' });
  t.strictSame(JSON.parse(said), { before: [1024, 4096], raised: 4096, after: [4096, 4096] });
});

t.test('descriptors are not watched in a worker, which would block its loop for ever', async (t) => {
  const source = `import('${new URL('../../../shared/os/fd-watcher.ts', import.meta.url).href}').then(({ FdWatcher }) => new FdWatcher(0))`;
  const worker = new Worker(`import('node:process'); ${source}`, { eval: true });
  const [error] = (await once(worker, 'error')) as [Error];
  t.match(error.message, /main thread only/u);
});
