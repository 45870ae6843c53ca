// Settings of a network namespace: /proc/sys/net shows those of the namespace that the reader is in.
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { inNetns } from '#shared/os/netns.ts';

const FOLDER = '/proc/sys/net';

/** The value of `ipv6/conf/lo/disable_ipv6` and the like; undefined where the kernel has no such setting. */
export function readSysctl(netns: number, name: string): string | undefined {
  return inNetns(netns, () => {
    try {
      return readFileSync(`${FOLDER}/${name}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  });
}

/** Whether the kernel has the setting, and this process may not change it. */
export function isSysctlReadOnly(netns: number, name: string): boolean {
  return inNetns(netns, () => {
    const file = `${FOLDER}/${name}`;
    try {
      accessSync(file, constants.W_OK);
      return false;
    } catch {
      return existsSync(file);
    }
  });
}

/** False where it can't be set: the kernel has no such setting, or /proc/sys is mounted for reading only. */
export function writeSysctl(netns: number, name: string, value: string): boolean {
  return inNetns(netns, () => {
    try {
      writeFileSync(`${FOLDER}/${name}`, value);
      return true;
    } catch {
      return false;
    }
  });
}
