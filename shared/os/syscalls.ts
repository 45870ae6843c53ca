// The system calls that Node lacks, bound once per thread through koffi. Each returns what libc returns; errno must be read at once.
// Pointers stay in this folder: callers above pass typed arrays, which koffi keeps in place for the time of the call.
import koffi from 'koffi';
import { systemError } from './errno.ts';
import { EPOLL_EVENT, MSGHDR, RLIMIT } from './layout.ts';
import { checkMessage } from './message-check.ts';
import { checked, type Shape } from './pointer-check.ts';

type Bytes = Uint8Array | null;

export interface Libc {
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: Bytes, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Bytes, length: number): number;
  accept4(fd: number, address: Bytes, length: Bytes, flags: number): number;
  getsockname(fd: number, address: Bytes, length: Bytes): number;
  getpeername(fd: number, address: Bytes, length: Bytes): number;
  getsockopt(fd: number, level: number, name: number, value: Bytes, length: Bytes): number;
  setsockopt(fd: number, level: number, name: number, value: Bytes, length: number): number;
  sendmsg(fd: number, message: Bytes, flags: number): number;
  recvmsg(fd: number, message: Bytes, flags: number): number;
  shutdown(fd: number, how: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Bytes): number;
  epoll_wait(epoll: number, events: Bytes, size: number, timeout: number): number;
  read(fd: number, into: Uint8Array, length: number): number;
  send(fd: number, from: Uint8Array, length: number, flags: number): number;
  getrlimit(resource: number, limit: Bytes): number;
  setrlimit(resource: number, limit: Bytes): number;
}

const SHAPES: Partial<Record<keyof Libc, Shape>> = {
  bind: 'fd array size',
  listen: 'fd',
  connect: 'fd array size',
  accept4: 'fd array sizeIn',
  getsockname: 'fd array sizeIn',
  getpeername: 'fd array sizeIn',
  getsockopt: 'fd - - array sizeIn',
  setsockopt: 'fd - - array size',
  sendmsg: `fd >=${MSGHDR.size}`,
  recvmsg: `fd >=${MSGHDR.size}`,
  shutdown: 'fd',
  fcntl: 'fd',
  close: 'fd',
  setns: 'fd',
  epoll_ctl: `fd - fd >=${EPOLL_EVENT.size}`,
  epoll_wait: 'fd array events',
  read: 'fd array size',
  send: 'fd array size',
  getrlimit: `- >=${RLIMIT.size}`,
  setrlimit: `- >=${RLIMIT.size}`,
};

let bound: Libc | undefined;

/** The bindings of this thread, made at first use. */
export function libc(): Libc {
  bound ??= bind();
  return bound;
}

function bind(): Libc {
  const library = koffi.load(null);
  const calls: Libc = {
    socket: library.func('int socket(int, int, int)'),
    bind: library.func('int bind(int, const void *, uint)'),
    listen: library.func('int listen(int, int)'),
    connect: library.func('int connect(int, const void *, uint)'),
    accept4: library.func('int accept4(int, void *, void *, int)'),
    getsockname: library.func('int getsockname(int, void *, void *)'),
    getpeername: library.func('int getpeername(int, void *, void *)'),
    getsockopt: library.func('int getsockopt(int, int, int, void *, void *)'),
    setsockopt: library.func('int setsockopt(int, int, int, const void *, uint)'),
    sendmsg: library.func('long sendmsg(int, const void *, int)'),
    recvmsg: library.func('long recvmsg(int, void *, int)'),
    fcntl: library.func('int fcntl(int, int, int)'),
    shutdown: library.func('int shutdown(int, int)'),
    close: library.func('int close(int)'),
    setns: library.func('int setns(int, int)'),
    epoll_create1: library.func('int epoll_create1(int)'),
    epoll_ctl: library.func('int epoll_ctl(int, int, int, void *)'),
    epoll_wait: library.func('int epoll_wait(int, void *, int, int)'),
    read: library.func('long read(int, void *, size_t)'),
    send: library.func('long send(int, const void *, size_t, int)'),
    getrlimit: library.func('int getrlimit(int, void *)'),
    setrlimit: library.func('int setrlimit(int, const void *)'),
  };
  return checked(calls, SHAPES, { sendmsg: checkMessage, recvmsg: checkMessage });
}

/** errno of the call before; anything in between may overwrite it. */
export function errno(): number {
  return koffi.errno();
}

/** Passes a result >= 0 on; else throws what was tried, the call and errno. */
export function check(result: number, what: string, syscall: string): number {
  if (result < 0) throw systemError(what, syscall, koffi.errno());
  return result;
}
