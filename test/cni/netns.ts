// Network namespaces of the CNI's tests: made under names of this process, joined by a veth, gone when the test ends.
import { execFile, execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const exec = promisify(execFile);
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
let count = 0;

export interface Netns {
  name: string;
  path: string;
  /** An open descriptor of it, closed with the test. */
  fd: number;
  /** Runs a program inside and gives its stdout. */
  run(...command: string[]): Promise<string>;
}

export function makeNetns(t: Test): Netns {
  count += 1;
  const name = `cni-${process.pid}-${count}`;
  execFileSync('ip', ['netns', 'add', name], { env });
  execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up'], { env });
  const path = `/run/netns/${name}`;
  const fd = openSync(path, 'r');
  t.teardown(() => {
    closeSync(fd);
    execFileSync('ip', ['netns', 'del', name], { env });
  });
  const run = async (...command: string[]): Promise<string> => {
    const { stdout } = await exec('ip', ['netns', 'exec', name, ...command], { env, timeout: 20_000 });
    return stdout;
  };
  return { name, path, fd, run };
}

/** Joins two namespaces by `eth0` on each side: 10.99.0.1 and .2, fd99::1 and ::2. */
export async function join(a: Netns, b: Netns): Promise<void> {
  await exec('ip', ['-n', a.name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b.name], { env });
  for (const [netns, host] of [
    [a, 1],
    [b, 2],
  ] as const) {
    await exec('ip', ['-n', netns.name, 'addr', 'add', `10.99.0.${host}/24`, 'dev', 'eth0'], { env });
    await exec('ip', ['-n', netns.name, 'addr', 'add', `fd99::${host}/64`, 'dev', 'eth0', 'nodad'], { env });
    await exec('ip', ['-n', netns.name, 'link', 'set', 'eth0', 'up'], { env });
  }
}
