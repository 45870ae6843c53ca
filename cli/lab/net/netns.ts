// Named network namespaces, through `ip netns` so that people can look into them with the same tool.
import { readdir } from 'node:fs/promises';
import { run, runProgram } from '../run.ts';

export async function createNetns(name: string): Promise<void> {
  await run(['ip', 'netns', 'add', name]);
  await run(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
}

/** Nothing happens when it does not exist. */
export async function deleteNetns(name: string): Promise<void> {
  const result = await runProgram(['ip', 'netns', 'delete', name]);
  if (result.code !== 0 && (await listNetns(name)).includes(name)) await run(['ip', 'netns', 'delete', name]);
}

/** Names that begin with `prefix`. */
export async function listNetns(prefix: string): Promise<string[]> {
  try {
    return (await readdir('/run/netns')).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

/** Process ids that run in the namespace. */
export async function netnsPids(name: string): Promise<number[]> {
  const result = await runProgram(['ip', 'netns', 'pids', name]);
  return result.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}

/** Sets kernel parameters inside the namespace, in one call. */
export async function setSysctls(netns: string, settings: Record<string, string>): Promise<void> {
  const pairs = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  await run(['sysctl', '-q', '-w', ...pairs], { netns });
}
