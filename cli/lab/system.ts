// The programs of the mesh in a lab: what a DaemonSet or a Deployment starts in a cluster, with the environment of docs/seams.md.
import { join } from 'node:path';
import { PORT } from '#shared/ports.ts';
import { CLUSTER_DOMAIN, FABRIC_ADDRESS, SYSTEM_NAMESPACE } from './plan.ts';
import type { LabPlan, NodePlan } from './plan.ts';
import { inNetns } from './run.ts';
import type { Launch } from './supervised.ts';

export interface SystemProgram {
  name: string;
  node?: NodePlan;
  netns: string;
  launch(): Launch;
}

export interface SystemContext {
  plan: LabPlan;
  /** Of the repository or the installed package. */
  root: string;
  /** The user's folder and `objects/`. */
  objectDirs: readonly string[];
  statusDir: string;
  /** PATH and whatever else every process gets. */
  baseEnv: Record<string, string>;
  ztunnel?: ZtunnelOverride | undefined;
}

/** Another ztunnel in the place of ours, or ours with more environment: how the benchmark compares. */
export interface ZtunnelOverride {
  /** Default: our own. */
  argv?: readonly string[] | undefined;
  env?: Record<string, string> | undefined;
}

const PUBLIC_ADDRESS = `https://${FABRIC_ADDRESS}:${PORT.controlPlane}`;

export function controlPlaneProgram(context: SystemContext): SystemProgram {
  const { plan } = context;
  const dir = join(plan.runDir, 'controlplane');
  return program(context, 'controlplane', plan.fabricNetns, join(dir, 'controlplane.log'), {
    OBJECT_DIRS: context.objectDirs.join(':'),
    STATUS_DIR: context.statusDir,
    OBJECT_WRITE_DIR: join(plan.runDir, 'objects'),
    STATE_DIR: dir,
    PUBLIC_ADDRESS,
    CLUSTER_DOMAIN,
  });
}

export function agentProgram(context: SystemContext, node: NodePlan): SystemProgram {
  return {
    ...program(context, 'cni/agent', node.netns, join(node.dir, 'cni-agent.log'), {
      NODE_NAME: node.name,
      CNI_AGENT_RUN_DIR: node.dir,
      ZTUNNEL_UDS_ADDRESS: zdsSocket(node),
      OBJECT_DIRS: context.objectDirs.join(':'),
      STATUS_DIR: context.statusDir,
      EXCLUDE_NAMESPACES: SYSTEM_NAMESPACE,
      // As the charts of a cluster have it.
      AMBIENT_DNS_CAPTURE: 'true',
    }),
    node,
  };
}

export function ztunnelProgram(context: SystemContext, node: NodePlan): SystemProgram {
  const rootCert = join(context.plan.runDir, 'controlplane', 'root-cert.pem');
  const { argv, env: more } = context.ztunnel ?? {};
  const env = {
    NODE_NAME: node.name,
    XDS_ADDRESS: PUBLIC_ADDRESS,
    CA_ADDRESS: PUBLIC_ADDRESS,
    XDS_ROOT_CA: rootCert,
    CA_ROOT_CA: rootCert,
    AUTH_TOKEN: ztunnelToken(node),
    INPOD_UDS: zdsSocket(node),
    CLUSTER_ID: 'Kubernetes',
    POD_NAME: `ztunnel-${node.name}`,
    POD_NAMESPACE: SYSTEM_NAMESPACE,
    SERVICE_ACCOUNT: 'ztunnel',
    INSTANCE_IP: node.address,
    ...more,
  };
  return { ...program(context, 'ztunnel', node.netns, join(node.dir, 'ztunnel.log'), env, argv), node };
}

/** The command of our own image with these arguments; undefined when it has no such program. */
export function culvertImage(root: string, args: readonly string[]): string[] | undefined {
  return args[0] === 'waypoint' ? [...nodeProgram(root, 'waypoint'), ...args.slice(1)] : undefined;
}

/** Where a node's ztunnel finds its token. */
export function ztunnelToken(node: NodePlan): string {
  return join(node.dir, 'tokens', 'ztunnel');
}

export function zdsSocket(node: NodePlan): string {
  return join(node.dir, 'ztunnel.sock');
}

/** The socket that the CNI plugin posts to. */
export function eventSocket(node: NodePlan): string {
  return join(node.dir, 'pluginevent.sock');
}

/** How a program of the mesh is started (docs/seams.md, first lines): from its bundle, or from its source. */
export function nodeProgram(root: string, folder: string, from: 'bundle' | 'source' = 'bundle'): string[] {
  // The main thread of a proxy follows the mesh; those that serve connections have their own (shared/workers/threads.ts).
  const young = folder === 'waypoint' || folder === 'ztunnel' ? 4 : 1;
  const file = from === 'bundle' ? join(root, 'dist', folder, 'main.js') : join(root, folder, 'main.ts');
  return [process.execPath, `--max-semi-space-size=${young}`, '--expose-gc', file];
}

function program(
  context: SystemContext,
  folder: string,
  netns: string,
  logFile: string,
  env: Record<string, string>,
  argv: readonly string[] = nodeProgram(context.root, folder),
): SystemProgram {
  return {
    name: folder.replace('/', '-'),
    netns,
    launch: () => ({
      argv: inNetns(netns, argv),
      // As the command `culvert` has it: without it the first file of a program is compiled at each start.
      env: { ...context.baseEnv, NODE_COMPILE_CACHE: join(context.root, 'node_modules', '.cache', 'compile'), ...env },
      logFile,
    }),
  };
}
