// Numbers of the kernel, as names and as errors of ours.
import { getSystemErrorMap } from 'node:util';
import t from 'tap';
import type { ErrorCode } from '#shared/errors.ts';
import { errnoName, errorCode, SystemError, systemError } from '#shared/os/errno.ts';
import { ERRNO } from '#shared/os/layout.ts';

/** As <asm-generic/errno.h> has them, and what a failed call is told as. */
const TABLE: readonly [errno: number, name: string, code: ErrorCode][] = [
  [1, 'EPERM', 'missing_capability'],
  [2, 'ENOENT', 'not_found'],
  [4, 'EINTR', 'internal'],
  [11, 'EAGAIN', 'internal'],
  [13, 'EACCES', 'missing_capability'],
  [22, 'EINVAL', 'internal'],
  [23, 'ENFILE', 'limit_reached'],
  [24, 'EMFILE', 'limit_reached'],
  [32, 'EPIPE', 'reset'],
  [98, 'EADDRINUSE', 'internal'],
  [99, 'EADDRNOTAVAIL', 'internal'],
  [101, 'ENETUNREACH', 'connect_failed'],
  [104, 'ECONNRESET', 'reset'],
  [110, 'ETIMEDOUT', 'connect_timeout'],
  [111, 'ECONNREFUSED', 'connect_failed'],
  [113, 'EHOSTUNREACH', 'connect_failed'],
];

t.test('names, codes and texts', async (t) => {
  for (const [errno, name, code] of TABLE) {
    t.equal(errnoName(errno), name);
    const error = systemError('connect to 10.0.0.1:80', 'connect', errno);
    t.equal(error.code, code, name);
    const reason = getSystemErrorMap().get(-errno)?.[1] ?? '';
    t.ok(error.message.startsWith(`connect to 10.0.0.1:80: connect: ${reason} (${name})`), error.message);
    t.equal(errorCode(error), name, 'the name is found behind it');
    t.match(error.cause, { errno, syscall: 'connect', code: name });
    t.ok(error.cause instanceof SystemError);
  }
});

t.test('who may not is told what is missing; what nobody knows keeps its number', async (t) => {
  t.match(systemError('listen', 'setsockopt', 1).message, /\(EPERM\); run with CAP_NET_ADMIN and CAP_SYS_ADMIN$/u);
  t.notMatch(systemError('listen', 'bind', 13).message, /CAP_/u, 'a port below 1024 is no matter of these two');
  t.match(systemError('x', 'y', 9999), { code: 'internal', message: 'x: y: unknown error (errno 9999)' });
  t.equal(errorCode(new Error('x')), '');
  t.equal(errorCode('x'), '');
  t.equal(errorCode(Object.assign(new Error('x'), { code: 'ENOENT' })), 'ENOENT', "Node's own");
});

t.test('the numbers that code compares with have these names', async (t) => {
  // Libuv has no name for EINPROGRESS, which is no error.
  for (const [name, errno] of Object.entries(ERRNO)) t.equal(errnoName(errno), name === 'EINPROGRESS' ? 'errno 115' : name);
});
