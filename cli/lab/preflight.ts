// What a lab needs of the machine, checked before anything is made: everything that is missing is named at once, with how to get it.
import { access, constants, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';
import { listNetns } from './net/netns.ts';
import { netnsPrefix } from './plan.ts';
import { runProgram } from './run.ts';

/** Program and the Debian package that has it. */
const PROGRAMS: readonly [string, string][] = [
  ['ip', 'iproute2'],
  ['nft', 'nftables'],
  ['nsenter', 'util-linux'],
  ['unshare', 'util-linux'],
  ['setpriv', 'util-linux'],
  ['sysctl', 'procps'],
];

export const CNI_PLUGIN_DIRS = ['/usr/lib/cni', '/opt/cni/bin'];
const CNI_PLUGINS = ['bridge', 'host-local'];

/** Throws one error that names every fault. */
export async function preflight(id: string): Promise<void> {
  const faults: string[] = [];
  if (process.platform !== 'linux') faults.push(`this is ${process.platform}: network namespaces and nftables need Linux`);
  if (process.getuid?.() !== 0)
    faults.push('network namespaces and nftables need root: run it as root (for instance: sudo culvert up …)');
  faults.push(...(await requirePrograms(PROGRAMS)), ...(await missingPlugins()));
  if (faults.length === 0) faults.push(...(await missingKernelFeatures()), ...(await takenNames(id)));
  if (faults.length > 0) throw new MeshError('missing_capability', faults.join('\n'));
}

/** What to say of each program that is not there: name and Debian package. */
export async function requirePrograms(programs: readonly [string, string][]): Promise<string[]> {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':');
  const found = await Promise.all(programs.map(([program]) => anyExecutable(path, program)));
  return programs
    .filter((_, index) => found[index] !== true)
    .map(([program, debian]) => `the program ${program} is missing: apt-get install ${debian}`);
}

async function missingPlugins(): Promise<string[]> {
  const found = await Promise.all(CNI_PLUGINS.map((plugin) => anyExecutable(CNI_PLUGIN_DIRS, plugin)));
  return CNI_PLUGINS.filter((_, index) => found[index] !== true).map(
    (plugin) =>
      `the CNI plugin ${plugin} is in none of ${CNI_PLUGIN_DIRS.join(', ')}: apt-get install containernetworking-plugins`,
  );
}

async function missingKernelFeatures(): Promise<string[]> {
  const faults: string[] = [];
  if (!(await exists('/proc/sys/net/bridge'))) await runProgram(['modprobe', 'br_netfilter']).catch(() => undefined);
  if (!(await exists('/proc/sys/net/bridge')))
    faults.push('the kernel has no bridge netfilter: load it with modprobe br_netfilter (CONFIG_BRIDGE_NETFILTER)');
  if (!/\boverlay$/mu.test(await readFile('/proc/filesystems', 'utf8')))
    await runProgram(['modprobe', 'overlay']).catch(() => undefined);
  if (!/\boverlay$/mu.test(await readFile('/proc/filesystems', 'utf8')))
    faults.push('the kernel has no overlay file system: load it with modprobe overlay (CONFIG_OVERLAY_FS)');
  const nat = await runProgram([
    'unshare', '--net', '--', 'nft',
    'table ip t { chain c { type nat hook prerouting priority dstnat; ip daddr 192.0.2.1 tcp dport 80 dnat to 192.0.2.2:80; }; }',
  ]); // prettier-ignore
  if (nat.code !== 0)
    faults.push(`the kernel refuses nftables NAT in a network namespace (CONFIG_NFT_NAT): ${nat.stderr.trim()}`);
  if (!(await exists(`/proc/self/task/${process.pid}/children`)))
    faults.push('the kernel does not tell the children of a process (CONFIG_PROC_CHILDREN)');
  return faults;
}

async function takenNames(id: string): Promise<string[]> {
  const left = await listNetns(netnsPrefix(id));
  return left.length === 0
    ? []
    : [`network namespaces of an earlier lab are left (${left.join(', ')}): culvert down removes them`];
}

async function anyExecutable(folders: readonly string[], name: string): Promise<boolean> {
  for (const folder of folders) {
    const found = await access(join(folder, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The folder with the objects must be there and readable. */
export async function checkFolder(folder: string): Promise<void> {
  try {
    await readdir(folder);
  } catch (error) {
    const why = { ENOENT: 'there is no such folder', ENOTDIR: 'it is no folder', EACCES: 'permission denied' };
    const reason = why[(error as NodeJS.ErrnoException).code as keyof typeof why] ?? MeshError.from(error).message;
    throw new MeshError('invalid_config', `${folder} cannot be read: ${reason}`, { cause: error });
  }
}
