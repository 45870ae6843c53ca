// The container runtime's side of CNI: runs a chain of plugins as the specification says (environment, configuration on standard
// input, the result of one handed to the next).
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';
import { runProgram } from '../run.ts';

const CNI_VERSION = '1.0.0';

export interface CniPlugin {
  type: string;
  [field: string]: unknown;
}

export interface CniNetwork {
  name: string;
  plugins: readonly CniPlugin[];
  /** Folders to look for plugins in, in order. */
  path: readonly string[];
  /** The node's namespace: plugins run there. */
  nodeNetns: string;
}

/** The container that a chain runs for. */
export interface CniTarget {
  containerId: string;
  netnsPath: string;
  podName: string;
  podNamespace: string;
  podUid: string;
}

export interface CniResult {
  ips?: { address: string; gateway?: string }[];
  [field: string]: unknown;
}

/**
 * Attaches the container. When a plugin fails, those before it are undone and the plugin's message is thrown;
 * `onFailure` is told before the undoing, which waits for plugins too.
 */
export async function cniAdd(network: CniNetwork, target: CniTarget, onFailure?: (error: unknown) => void): Promise<CniResult> {
  let result: CniResult | undefined;
  try {
    for (const plugin of network.plugins) result = parseResult(plugin, await invoke(network, 'ADD', plugin, target, result));
  } catch (error) {
    onFailure?.(error);
    await cniDel(network, target, result).catch(() => {});
    throw error;
  }
  return result ?? {};
}

/** Detaches it, last plugin first. Safe to call again. */
export async function cniDel(network: CniNetwork, target: CniTarget, result?: CniResult): Promise<void> {
  const faults: string[] = [];
  for (const plugin of [...network.plugins].reverse())
    await invoke(network, 'DEL', plugin, target, result).catch((error: unknown) => faults.push(MeshError.from(error).message));
  if (faults.length > 0) throw new MeshError('internal', faults.join('; '));
}

async function invoke(
  network: CniNetwork,
  command: 'ADD' | 'DEL',
  plugin: CniPlugin,
  target: CniTarget,
  prevResult: CniResult | undefined,
): Promise<string> {
  const file = await findPlugin(network, plugin.type);
  const conf = { cniVersion: CNI_VERSION, name: network.name, ...plugin, ...(prevResult && { prevResult }) };
  const { code, stdout, stderr } = await runProgram([file], {
    netns: network.nodeNetns,
    input: JSON.stringify(conf),
    env: {
      PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      CNI_COMMAND: command,
      CNI_CONTAINERID: target.containerId,
      CNI_NETNS: target.netnsPath,
      CNI_IFNAME: 'eth0',
      CNI_PATH: network.path.join(':'),
      CNI_ARGS: [
        'IgnoreUnknown=1',
        `K8S_POD_NAMESPACE=${target.podNamespace}`,
        `K8S_POD_NAME=${target.podName}`,
        `K8S_POD_INFRA_CONTAINER_ID=${target.containerId}`,
        `K8S_POD_UID=${target.podUid}`,
      ].join(';'),
    },
  });
  if (code === 0) return stdout;
  throw new MeshError(
    'internal',
    `CNI ${command} of ${plugin.type} failed: ${errorText(stdout) ?? (stderr.trim() || `exit ${code}`)}`,
  );
}

/** The message of a CNI error object: `{code, msg, details}`. */
function errorText(stdout: string): string | undefined {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string };
    return msg === undefined ? undefined : [msg, details].filter((part) => part !== undefined && part !== '').join(': ');
  } catch {
    return undefined;
  }
}

function parseResult(plugin: CniPlugin, stdout: string): CniResult {
  try {
    return JSON.parse(stdout) as CniResult;
  } catch (error) {
    throw new MeshError('internal', `CNI ADD of ${plugin.type} answered no JSON: ${stdout.slice(0, 200)}`, { cause: error });
  }
}

async function findPlugin(network: CniNetwork, type: string): Promise<string> {
  for (const folder of network.path) {
    const file = join(folder, type);
    const found = await access(file).then(
      () => true,
      () => false,
    );
    if (found) return file;
  }
  throw new MeshError('missing_capability', `the CNI plugin ${type} is in none of ${network.path.join(', ')}`);
}
