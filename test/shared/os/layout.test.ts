// Layouts of the kernel's structs: those that differ by architecture on each, and all of them as the kernel here fills them in.
import t from 'tap';
import {
  AF,
  EPOLL,
  EPOLL_EVENT,
  epollEventOf,
  IOVEC,
  LINGER,
  MSGHDR,
  RLIMIT,
  RLIMIT_NOFILE,
  SOCK,
  UCRED,
} from '#shared/os/layout.ts';
import { libc } from '#shared/os/syscalls.ts';
import { Epoll } from '#shared/os/epoll.ts';

t.test('struct epoll_event is packed on x86-64 and aligned on arm64', async (t) => {
  t.strictSame(epollEventOf('x64'), { size: 12, data: 4 });
  t.strictSame(epollEventOf('arm64'), { size: 16, data: 8 });
  t.strictSame(EPOLL_EVENT, epollEventOf(process.arch));
});

t.test('the kernel finds our data where the layout of this machine has them', async (t) => {
  // Two events at once: with a wrong size the second is read from the wrong place.
  const ready = new Epoll();
  t.teardown(() => ready.close());
  const sockets = [0, 1].map(() => libc().socket(AF.INET, SOCK.STREAM | SOCK.NONBLOCK | SOCK.CLOEXEC, 0));
  t.teardown(() => sockets.forEach((fd) => libc().close(fd)));
  for (const [i, fd] of sockets.entries()) ready.add(fd, 0x11223344 + i, EPOLL.OUT);
  const seen: number[] = [];
  ready.wait(0, (id) => void seen.push(id));
  t.strictSame(
    seen.toSorted((a, b) => a - b),
    [0x11223344, 0x11223345],
  );
});

t.test('structs that are read and written by their layout', async (t) => {
  t.equal(IOVEC.size, 16);
  t.equal(MSGHDR.size, MSGHDR.flags + 8);
  t.equal(UCRED.size, UCRED.gid + 4);
  t.equal(LINGER.size, LINGER.seconds + 4);
  const limit = Buffer.alloc(RLIMIT.size, 0xff);
  t.equal(libc().getrlimit(RLIMIT_NOFILE, limit), 0);
  t.ok(limit.readBigUInt64LE(RLIMIT.soft) <= limit.readBigUInt64LE(RLIMIT.hard));
});
