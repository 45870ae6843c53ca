// Names and addresses of one lab: all of them follow from the run directory and the node names, so that several labs live side by
// side and `culvert down` finds everything that belongs to one (docs/seams.md, "Run directory").
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';

export interface NodePlan {
  name: string;
  netns: string;
  /** On the fabric. */
  address: string;
  podCidr: string;
  /** The bridge's address, gateway of the node's pods. */
  gateway: string;
  /** Interface of the node in the fabric namespace. */
  port: string;
  /** `nodes/NODE` below the run directory. */
  dir: string;
}

export interface LabPlan {
  runDir: string;
  /** Four hexadecimal digits of the run directory's hash. */
  id: string;
  fabricNetns: string;
  nodes: readonly NodePlan[];
}

/** The control plane and the DNS server, on the fabric. */
export const FABRIC_ADDRESS = '172.30.0.1';
export const FABRIC_PREFIX = 24;
export const SERVICE_CIDR = '10.96.0.0/16';
export const DNS_VIP = '10.96.0.10';
export const CLUSTER_DOMAIN = 'cluster.local';
export const SYSTEM_NAMESPACE = 'culvert-system';
/** Kubelet probes come from here, so that the redirect rules of a pod let them pass (facts: cni 1). */
export const PROBE_SOURCE = '169.254.7.127';

/** Where the containers of a pod find the programs of their `command`: set by `culvert apply`, else the folder of the lab. */
export const FOLDER_ANNOTATION = 'culvert.dev/folder';

/** Node addresses are .11 and up. */
const FIRST_NODE = 11;
const MAX_NODES = 200;

export function labId(runDir: string): string {
  return createHash('sha256').update(runDir).digest('hex').slice(0, 4);
}

/** Every network namespace of the lab begins with this. */
export function netnsPrefix(id: string): string {
  return `culvert-${id}-`;
}

export function planLab(runDir: string, nodeNames: readonly string[]): LabPlan {
  if (nodeNames.length === 0 || nodeNames.length > MAX_NODES)
    throw new MeshError('invalid_config', `${nodeNames.length} nodes: a lab has from 1 to ${MAX_NODES}`);
  const id = labId(runDir);
  const nodes = nodeNames.map((name, index) => ({
    name,
    netns: `${netnsPrefix(id)}${name}`,
    address: `172.30.0.${FIRST_NODE + index}`,
    podCidr: `10.244.${index + 1}.0/24`,
    gateway: `10.244.${index + 1}.1`,
    port: `n${index + 1}`,
    dir: join(runDir, 'nodes', name),
  }));
  return { runDir, id, fabricNetns: `${netnsPrefix(id)}fabric`, nodes };
}

/** A fresh name for each sandbox: a veth of a deleted namespace goes a moment later, and a name used again at once can collide. */
export function podNetns(id: string): string {
  return `${netnsPrefix(id)}p-${randomBytes(4).toString('hex')}`;
}

/** `pods/NAMESPACE--NAME` below the run directory. */
export function podDir(runDir: string, namespace: string, name: string): string {
  return join(runDir, 'pods', `${namespace}--${name}`);
}
