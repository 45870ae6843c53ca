// The limit of open descriptors: a proxy needs two per connection, and the usual soft limit of 1024 is for programs that use select(2).
import { RLIMIT, RLIMIT_NOFILE } from './layout.ts';
import { check, libc } from './syscalls.ts';

/** Raises the soft limit of open descriptors to the hard one and returns it. */
export function raiseOpenFileLimit(): number {
  const limit = Buffer.alloc(RLIMIT.size);
  const what = 'raise the limit of open descriptors';
  check(libc().getrlimit(RLIMIT_NOFILE, limit), what, 'getrlimit');
  limit.copy(limit, RLIMIT.soft, RLIMIT.hard, RLIMIT.size);
  check(libc().setrlimit(RLIMIT_NOFILE, limit), what, 'setrlimit');
  return Number(limit.readBigUInt64LE(RLIMIT.soft));
}
