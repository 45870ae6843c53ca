// Network namespaces. A socket belongs for ever to the namespace in which socket(2) ran, so it is enough to be there for that one call.
import { closeSync, fstatSync, openSync } from 'node:fs';
import type { NetnsFd } from '../reactor/api.ts';
import { CLONE_NEWNET } from './layout.ts';
import { check, libc } from './syscalls.ts';

/** Opens a namespace by path (`/var/run/netns/NAME`, `/proc/PID/ns/net`); the caller closes the descriptor. */
export function openNetns(path: string): number {
  return openSync(path, 'r');
}

/** Opens the namespace that the calling thread is in. */
export function currentNetns(): number {
  return openNetns('/proc/thread-self/ns/net');
}

/** Tells namespaces apart whatever path or descriptor they came by: `DEV:INODE`. */
export function netnsIdentity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}

let home: number | undefined;

/**
 * Runs a synchronous function inside a namespace (undefined: where we are) and comes back. Not nested. A thread that cannot come back
 * would serve one pod's traffic in another's network, so then the process is aborted.
 */
export function inNetns<T>(fd: NetnsFd, run: () => T): T {
  if (fd === undefined) return run();
  home ??= currentNetns();
  check(libc().setns(fd, CLONE_NEWNET), `enter the network namespace of descriptor ${fd}`, 'setns');
  try {
    return run();
  } finally {
    if (libc().setns(home, CLONE_NEWNET) < 0) process.abort();
  }
}

/** Closes a namespace descriptor (or any other one that `shared/os` handed out). */
export function closeFd(fd: number): void {
  closeSync(fd);
}
