// Checked pointers: what is refused before C code sees it, and that all of the reactor and of TLS runs with the checks on.
import t from 'tap';

// Before anything is bound.
process.env['CULVERT_DEBUG_POINTERS'] = '1';
const { libc } = await import('#shared/os/syscalls.ts');
const { copyOf } = await import('#shared/os/memory.ts');
const { openssl } = await import('#shared/tls/openssl.ts');
const { threadWire } = await import('#shared/tls/wire.ts');
const { createReactor } = await import('#shared/reactor/create.ts');
const { randomSuite } = await import('../reactor/suite/random.ts');
const { seqpacketSuite } = await import('./suite/seqpacket.ts');
const { fairSuite } = await import('../reactor/suite/fair.ts');
const { faultSuite } = await import('../reactor/suite/faults.ts');
const { idleSuite } = await import('../reactor/suite/idle.ts');
const { netnsSuite } = await import('../reactor/suite/netns.ts');
const { threadSuite } = await import('../reactor/suite/threads.ts');
const { socketSuite } = await import('../reactor/suite/sockets.ts');
const { streamSuite } = await import('../reactor/suite/streams.ts');
const { tlsSuite } = await import('../reactor/suite/tls.ts');

const fault = (reason: RegExp) => ({ code: 'internal', message: reason });

t.test('lengths, arrays and descriptors of system calls', async (t) => {
  const bytes = new Uint8Array(100);
  t.throws(() => libc().read(0, bytes, 101), fault(/pointer check: read: argument 3: 101 is more than 100/u));
  t.throws(() => libc().read(-1, bytes, 100), fault(/read: argument 1: -1 is no length or descriptor/u));
  t.throws(() => libc().send(1.5, bytes, 100, 0), fault(/argument 1/u));
  t.throws(() => libc().send(1, bytes, Number.NaN, 0), fault(/argument 3/u));
  t.throws(() => libc().epoll_wait(0, bytes, 100, 0), fault(/argument 3/u));
  t.throws(() => libc().getsockopt(0, 1, 1, bytes, Buffer.from([101, 0, 0, 0])), fault(/argument 5: 101 is more than 100/u));
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  t.throws(() => libc().read(0, bytes, 0), fault(/memory is gone/u));
  t.throws(() => copyOf(0, 1), fault(/0 is no address/u));
});

t.test('pointers of OpenSSL, until they are freed', async (t) => {
  const ssl = openssl();
  const context = ssl.SSL_CTX_new(ssl.TLS_method());
  const session = ssl.SSL_new(context);
  t.throws(() => ssl.SSL_read(session, new Uint8Array(10), 11), fault(/SSL_read: argument 3: 11 is more than 10/u));
  t.throws(() => ssl.SSL_do_handshake(context), fault(/is no session/u));
  t.throws(() => ssl.SSL_do_handshake(0), fault(/0 is no address/u));
  ssl.SSL_free(session);
  t.throws(() => ssl.SSL_free(session), fault(/is no session, or was freed/u));
  ssl.SSL_CTX_free(context);
  t.throws(() => ssl.SSL_new(context), fault(/is no context, or was freed/u));
  t.throws(() => threadWire().offer(new Uint8Array(10), 11), fault(/11 is more than 10/u));
});

t.test('the reactor and TLS', async (t) => {
  const create = () => createReactor({ backend: 'native' });
  t.test('streams', async (t) => streamSuite(t, create));
  t.test('any order', async (t) => randomSuite(t, create));
  t.test('sockets', async (t) => socketSuite(t, create));
  t.test('handshakes', async (t) => tlsSuite(t, create));
  t.test('faults', async (t) => faultSuite(t, (onFault) => createReactor({ backend: 'native', onFault })));
  t.test('fairness', async (t) => fairSuite(t, create));
  t.test('idleness', async (t) => idleSuite(t, create));
  t.test('network namespaces', async (t) => netnsSuite(t, create));
  t.test('threads', async (t) => threadSuite(t, create));
});

t.test('messages and descriptors over Unix sockets', async (t) => seqpacketSuite(t));
