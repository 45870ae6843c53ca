// A network namespace for one test: loopback up, gone when the test is over, however it ends.
import { execFileSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import type { Test } from 'tap';
import { openNetns } from '#shared/os/netns.ts';

export interface TestNetns {
  readonly name: string;
  /** Open while the test runs. */
  readonly fd: number;
  /** Runs a program inside; its output. */
  exec(program: string, ...args: string[]): string;
  /** Loads nftables text inside. */
  nft(text: string): void;
}

export function createNetns(t: Pick<Test, 'teardown'>, label: string): TestNetns {
  const name = `culvert-test-${process.pid}-${label}`;
  execFileSync('ip', ['netns', 'add', name]);
  t.teardown(() => execFileSync('ip', ['netns', 'del', name]));
  execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  const fd = openNetns(`/var/run/netns/${name}`);
  t.teardown(() => closeSync(fd));
  const inside = ['netns', 'exec', name];
  return {
    name,
    fd,
    exec: (program, ...args) => execFileSync('ip', [...inside, program, ...args], { encoding: 'utf8' }),
    nft: (text) => void execFileSync('ip', [...inside, 'nft', '-f', '-'], { input: text }),
  };
}
