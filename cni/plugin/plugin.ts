// The verbs of the CNI plugin. It changes no interface and no result: it tells the agent, and what the agent refuses fails.
import { addressesOf, CNI_CODE, CniError, LATEST_VERSION, parseNetConf, SUPPORTED_VERSIONS } from './spec.ts';
import type { NetConf } from './spec.ts';
import type { AgentCall, PluginEvent } from './agent-client.ts';

export interface PluginDeps {
  env(name: string): string | undefined;
  stdin(): Promise<string>;
  callAgent(runDir: string, call: AgentCall, body: unknown): Promise<void>;
  /** A line for the runtime's log (standard error). */
  note(line: string): void;
}

export interface Outcome {
  /** What goes to standard output; '' for nothing. */
  stdout: string;
  exitCode: 0 | 1;
}

/** One run of the plugin, as the CNI spec describes it: parameters in the environment, configuration on standard input. */
export async function runPlugin(deps: PluginDeps): Promise<Outcome> {
  let version: string = LATEST_VERSION;
  try {
    const command = deps.env('CNI_COMMAND') ?? '';
    if (command === '')
      throw new CniError(CNI_CODE.invalidEnvironment, 'CNI_COMMAND is not set: a container runtime runs this program');
    const text = await deps.stdin();
    if (command === 'VERSION') return succeed({ cniVersion: versionOf(text), supportedVersions: SUPPORTED_VERSIONS });
    const conf = parseNetConf(text);
    version = conf.cniVersion;
    if (!SUPPORTED_VERSIONS.some((supported) => supported === version))
      throw new CniError(
        CNI_CODE.incompatibleVersion,
        `CNI version ${version} is not supported`,
        `supported: ${SUPPORTED_VERSIONS.join(', ')}`,
      );
    return await runVerb(command, conf, deps);
  } catch (thrown) {
    const error = thrown instanceof CniError ? thrown : new CniError(CNI_CODE.ioFailure, `culvert-cni failed: ${String(thrown)}`);
    const { code, message: msg, details } = error;
    return { stdout: `${JSON.stringify({ cniVersion: version, code, msg, details })}\n`, exitCode: 1 };
  }
}

async function runVerb(command: string, conf: NetConf, deps: PluginDeps): Promise<Outcome> {
  switch (command) {
    case 'ADD':
      await add(conf, deps);
      return succeed(conf.prevResult ?? { cniVersion: conf.cniVersion, interfaces: [], ips: [], dns: {} });
    case 'DEL':
      await remove(conf, deps);
      return succeed();
    case 'CHECK':
      await check(conf, deps);
      return succeed();
    case 'GC':
      if (conf.validContainers !== undefined)
        await deps.callAgent(conf.runDir, 'cmdgc', { ValidContainers: conf.validContainers });
      return succeed();
    case 'STATUS':
      await status(conf, deps);
      return succeed();
    default:
      throw new CniError(
        CNI_CODE.invalidEnvironment,
        `CNI_COMMAND=${command} is not known`,
        'ADD, DEL, CHECK, GC, STATUS, VERSION',
      );
  }
}

/** Fails closed: a pod that the agent has not agreed to does not start. */
async function add(conf: NetConf, deps: PluginDeps): Promise<void> {
  const event = eventOf(conf, deps);
  if (event.Netns === '') throw new CniError(CNI_CODE.invalidEnvironment, 'CNI_NETNS is not set');
  if (isOutside(event, conf)) return;
  await deps.callAgent(conf.runDir, 'cmdadd', event);
}

/**
 * Fails never for want of an agent: the rules die with the namespace, and an agent that was away forgets the pod when it finds it
 * gone. A failing DEL would only keep the pod from going.
 */
async function remove(conf: NetConf, deps: PluginDeps): Promise<void> {
  const event = eventOf(conf, deps);
  if (isOutside(event, conf)) return;
  try {
    await deps.callAgent(conf.runDir, 'cmddel', event);
  } catch (error) {
    deps.note(
      `culvert-cni: DEL of ${event.PodNamespace}/${event.PodName}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

async function check(conf: NetConf, deps: PluginDeps): Promise<void> {
  const event = eventOf(conf, deps);
  if (isOutside(event, conf)) return;
  await deps.callAgent(conf.runDir, 'cmdcheck', event);
}

async function status(conf: NetConf, deps: PluginDeps): Promise<void> {
  try {
    await deps.callAgent(conf.runDir, 'status', {});
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
    throw new CniError(CNI_CODE.unavailable, error.message, error.details);
  }
}

/** Containers that are no pods, and namespaces that must start without the mesh (the agent's own among them). */
function isOutside(event: PluginEvent, conf: NetConf): boolean {
  return event.PodName === '' || event.PodNamespace === '' || conf.excludeNamespaces.includes(event.PodNamespace);
}

function eventOf(conf: NetConf, deps: PluginDeps): PluginEvent {
  const args = parseArgs(deps.env('CNI_ARGS') ?? '');
  const uid = args.get('K8S_POD_UID') ?? '';
  const container = deps.env('CNI_CONTAINERID') ?? '';
  return {
    Netns: deps.env('CNI_NETNS') ?? '',
    PodName: args.get('K8S_POD_NAME') ?? '',
    PodNamespace: args.get('K8S_POD_NAMESPACE') ?? '',
    ...(uid === '' ? {} : { PodUID: uid }),
    ...(container === '' ? {} : { ContainerID: container }),
    IPs: addressesOf(conf.prevResult).map((ip) => ({ Address: { IP: ip } })),
  };
}

/** `KEY=VALUE;KEY=VALUE` */
function parseArgs(text: string): Map<string, string> {
  const pairs = text.split(';').filter((pair) => pair !== '');
  return new Map(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new CniError(CNI_CODE.invalidEnvironment, `CNI_ARGS: "${pair}" is not KEY=VALUE`);
      return [pair.slice(0, at), pair.slice(at + 1)] as const;
    }),
  );
}

/** VERSION may come with no configuration at all. */
function versionOf(text: string): string {
  return text.trim() === '' ? LATEST_VERSION : parseNetConf(text).cniVersion;
}

function succeed(result?: unknown): Outcome {
  return { stdout: result === undefined ? '' : `${JSON.stringify(result)}\n`, exitCode: 0 };
}
