// Checked pointers: each call that follows a pointer refuses one that leads astray, before C code sees it. What is right passes.
import { closeSync, openSync } from 'node:fs';
import t from 'tap';

// Before anything is bound.
process.env['CULVERT_DEBUG_POINTERS'] = '1';
const { libc } = await import('#shared/os/syscalls.ts');
const { AF, CMSG, EPOLL, EPOLL_EVENT, IOVEC, MSGHDR, RLIMIT, RLIMIT_NOFILE, SOCK } = await import('#shared/os/layout.ts');
const { addressOf, copyOf, copyTo, detach, pointerTo, viewOf } = await import('#shared/os/memory.ts');
const { giveBackMemory, memoryCalls } = await import('#shared/os/footprint.ts');
const { loopCalls } = await import('#shared/os/node-loop.ts');
const { UvPoll, READABLE } = await import('#shared/os/uv-poll.ts');
const { BIO_C_SET_BUF_MEM, openssl, SSL_CTRL } = await import('#shared/tls/openssl.ts');
const { createTestCa } = await import('../../harness/test-ca.ts');
const { fromPem } = await import('#shared/identity/pem.ts');
const { spiffeId } = await import('#shared/ids.ts');

const fault = (reason: RegExp) => ({ code: 'internal', message: reason });

/** A struct msghdr over one array and a control message, as sendmsg(2) takes it; what keeps them is returned with it. */
function message(data: Uint8Array, control: Uint8Array): { header: Buffer; iovec: Buffer } {
  const iovec = Buffer.alloc(IOVEC.size);
  iovec.writeBigUInt64LE(BigInt(addressOf(data)), IOVEC.base);
  iovec.writeBigUInt64LE(BigInt(data.length), IOVEC.length);
  const header = Buffer.alloc(MSGHDR.size);
  header.writeBigUInt64LE(BigInt(addressOf(iovec)), MSGHDR.iovecs);
  header.writeBigUInt64LE(1n, MSGHDR.iovecCount);
  if (control.length > 0) header.writeBigUInt64LE(BigInt(addressOf(control)), MSGHDR.control);
  header.writeBigUInt64LE(BigInt(control.length), MSGHDR.controlLength);
  return { header, iovec };
}

t.test('what a message header points to', async (t) => {
  const data = new Uint8Array(100);
  const control = Buffer.alloc(24);
  control.writeBigUInt64LE(20n, CMSG.length);
  /** Sends on a descriptor that is no socket: what passes the checks fails there. */
  const file = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(file));
  const tried = (change: (parts: ReturnType<typeof message>) => void): (() => void) => {
    const parts = message(data, control);
    change(parts);
    return () => void libc().sendmsg(file, parts.header, 0);
  };
  t.doesNotThrow(tried(() => undefined));
  t.throws(() => libc().sendmsg(file, new Uint8Array(MSGHDR.size - 1), 0), fault(/sendmsg: argument 2: 56 is more than 55/u));
  t.throws(
    tried(({ iovec }) => void iovec.writeBigUInt64LE(101n, IOVEC.length)),
    fault(/iovec 0: 101 is more than the 100 bytes/u),
  );
  t.throws(
    tried(({ iovec }) => void iovec.writeBigUInt64LE(0n, IOVEC.base)),
    fault(/iovec 0: 0 is no address/u),
  );
  t.throws(
    tried(({ header }) => void header.writeBigUInt64LE(2n, MSGHDR.iovecCount)),
    fault(/iovecs: 32 is more than the 16/u),
  );
  t.throws(
    tried(({ header }) => void header.writeBigUInt64LE(5000n, MSGHDR.iovecCount)),
    fault(/5000 iovecs/u),
  );
  t.throws(
    tried(({ header }) => void header.writeBigUInt64LE(25n, MSGHDR.controlLength)),
    fault(/control: 25 is more than the 24/u),
  );
  t.throws(
    tried(({ header }) => void header.writeBigUInt64LE(BigInt(2 ** 40), MSGHDR.control)),
    fault(/control: \d+ is in no array/u),
  );
  t.throws(
    tried(() => void control.writeBigUInt64LE(30n, CMSG.length)),
    fault(/control: a message of 30 bytes in 24/u),
  );
  const { header } = message(new Uint8Array(10), new Uint8Array(0));
  header.writeBigUInt64LE(8n, MSGHDR.iovecs);
  t.throws(() => libc().recvmsg(file, header, 0), fault(/recvmsg: argument 2: iovecs: 8 is no address/u));
});

t.test('structs of system calls have their size', async (t) => {
  const short = new Uint8Array(EPOLL_EVENT.size - 1);
  t.throws(() => libc().epoll_ctl(0, EPOLL.CTL_ADD, 0, short), fault(/epoll_ctl: argument 4: \d+ is more than \d+/u));
  t.throws(() => libc().epoll_ctl(0, EPOLL.CTL_ADD, -1, new Uint8Array(EPOLL_EVENT.size)), fault(/epoll_ctl: argument 3/u));
  t.throws(() => libc().epoll_ctl(0, EPOLL.CTL_ADD, 0, null), fault(/epoll_ctl: argument 4: not an array/u));
  t.throws(
    () => libc().getrlimit(RLIMIT_NOFILE, new Uint8Array(RLIMIT.size - 1)),
    fault(/getrlimit: argument 2: 16 is more than 15/u),
  );
  t.throws(() => libc().setrlimit(RLIMIT_NOFILE, new Uint8Array(8)), fault(/setrlimit: argument 2: 16 is more than 8/u));
});

t.test('copies and views', async (t) => {
  const bytes = Buffer.from('sixteen octets..');
  const own = Uint8Array.from(bytes);
  const at = addressOf(own);
  t.strictSame(copyOf(at, 16), bytes);
  t.strictSame(copyOf(at + 8, 8), bytes.subarray(8));
  t.throws(() => copyOf(at + 8, 9), fault(/memory to copy from: 9 is more than the 8 bytes/u));
  t.throws(() => copyOf(2 ** 48, 1), fault(/is no address/u));
  t.throws(() => copyTo(at + 15, new Uint8Array(2)), fault(/memory to copy to: 2 is more than the 1 bytes/u));
  t.throws(() => copyTo(100, new Uint8Array(2)), fault(/100 is no address/u));
  t.throws(() => viewOf(at, 17), fault(/memory to look at: 17 is more than the 16 bytes/u));
  t.throws(() => viewOf(0, 1), fault(/memory to look at: 0 is no address/u));
  t.throws(() => viewOf(at, -1), fault(/-1 is no length/u));
});

t.test('memory of OpenSSL', async (t) => {
  const ssl = openssl();
  const memory = ssl.CRYPTO_malloc(64, 'test', 0);
  t.throws(() => viewOf(memory, 65), fault(/65 is more than the 64 bytes/u));
  t.throws(() => copyTo(memory + 60, new Uint8Array(5)), fault(/5 is more than the 4 bytes/u));
  t.throws(() => ssl.CRYPTO_malloc(0, 'test', 0), fault(/CRYPTO_malloc: argument 1: 0 is no size/u));
  t.throws(() => ssl.CRYPTO_malloc(2 ** 40, 'test', 0), fault(/is no size/u));
  const view = viewOf(memory, 64);
  view[63] = 7;
  t.equal(copyOf(memory + 63, 1)[0], 7);
  detach(view);
  t.equal(view.length, 0);
  t.doesNotThrow(() => detach(viewOf(memory, 8)), 'once let go of, nothing is known of it');
});

t.test('pointers in the arguments of OpenSSL, and behind them', async (t) => {
  const ssl = openssl();
  const context = ssl.SSL_CTX_new(ssl.TLS_method());
  t.teardown(() => ssl.SSL_CTX_free(context));
  t.throws(
    () => ssl.SSL_CTX_ctrl(context, SSL_CTRL.CHAIN_CERT, 1, context),
    fault(/SSL_CTX_ctrl: argument 4: \d+ is no certificate/u),
  );
  t.throws(() => ssl.SSL_CTX_ctrl(context, SSL_CTRL.MODE, 0, context), fault(/command 33 takes no pointer/u));
  const bio = ssl.BIO_new(ssl.BIO_s_mem());
  const small = addressOf(new Uint8Array(31));
  t.throws(() => ssl.BIO_ctrl(bio, BIO_C_SET_BUF_MEM, 0, small), fault(/BIO_ctrl: argument 4: 32 is more than the 31 bytes/u));
  t.throws(() => ssl.BIO_ctrl(bio, BIO_C_SET_BUF_MEM, 0, 2 ** 40), fault(/is in no array/u));
  t.throws(() => ssl.BIO_ctrl(bio, 1, 0, small), fault(/command 1 takes no pointer/u));

  const { chain, key } = createTestCa().issue(
    spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' }),
  );
  const [der = Buffer.alloc(0)] = fromPem('CERTIFICATE', chain);
  const [pkcs8 = Buffer.alloc(0)] = fromPem('PRIVATE KEY', key);
  const at = pointerTo(addressOf(Uint8Array.from(der)));
  t.throws(() => ssl.d2i_X509(null, at, der.length + 1), fault(/d2i_X509: argument 2: \d+ is more than the \d+ bytes/u));
  t.throws(() => ssl.d2i_X509(null, at, 0), fault(/argument 3: 0 is no length/u));
  t.throws(() => ssl.d2i_X509(null, new Uint8Array(7), 1), fault(/argument 2: 8 is more than 7/u));
  const keyAt = pointerTo(addressOf(Uint8Array.from(pkcs8)));
  t.throws(() => ssl.d2i_AutoPrivateKey(null, keyAt, pkcs8.length + 1), fault(/d2i_AutoPrivateKey: argument 2/u));
  const held = Uint8Array.from(der);
  const certificate = ssl.d2i_X509(null, pointerTo(addressOf(held)), held.length);
  const room = new Uint8Array(der.length - 1);
  t.throws(
    () => ssl.i2d_X509(certificate, pointerTo(addressOf(room))),
    fault(/i2d_X509: argument 2: \d+ is more than the \d+ bytes/u),
  );
  ssl.X509_free(certificate);
  t.throws(() => ssl.SSL_CTX_ctrl(context, SSL_CTRL.CHAIN_CERT, 1, certificate), fault(/is no certificate, or was freed/u));
});

t.test("libuv: handles until they are closed, and the thread's loop", async (t) => {
  const { fd, close } = someSocket();
  const poll = new UvPoll(fd, () => undefined);
  t.throws(() => poll.start(0), fault(/start: argument 2: 0 are no events/u));
  t.throws(() => poll.start(16), fault(/16 are no events/u));
  poll.start(READABLE);
  poll.stop();
  poll.close();
  t.throws(() => poll.start(READABLE), fault(/start: argument 1: this array is no handle, or was freed/u));
  t.throws(() => poll.close(), fault(/close: argument 1: this array is no handle/u));
  t.throws(() => new UvPoll(-1, () => undefined), fault(/init: argument 3: -1 is no length or descriptor/u));
  close();
  const calls = loopCalls();
  const isolate = calls.isolate();
  t.throws(() => calls.loopOf(null), fault(/loopOf: argument 1: null is no address/u));
  t.throws(() => calls.backendTimeout(isolate), fault(/backendTimeout: argument 1: .* is no loop/u));
  t.ok(calls.backendFd(calls.loopOf(isolate)) > 0);
});

t.test('pages are dropped whole, and none that an array is in', async (t) => {
  const { madvise } = memoryCalls();
  const own = new Uint8Array(1 << 16);
  const page = Math.ceil(addressOf(own) / 4096) * 4096;
  t.throws(() => madvise(page + 1, 4096, 4), fault(/madvise: argument 1: \d+ is not the start of a page/u));
  t.throws(() => madvise(page, 0, 4), fault(/madvise: argument 2: 0 is no length/u));
  t.throws(() => madvise(page, 4096, 4), fault(/there are arrays in the 4096 bytes/u));
  t.throws(() => madvise(0, 4096, 4), fault(/0 is no address/u));
  t.doesNotThrow(giveBackMemory);
  t.equal(own[5000], 0);
});

function someSocket(): { fd: number; close: () => void } {
  const fd = libc().socket(AF.UNIX, SOCK.STREAM | SOCK.NONBLOCK | SOCK.CLOEXEC, 0);
  return { fd, close: () => void libc().close(fd) };
}
