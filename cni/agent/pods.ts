// The pods of this node whose network namespace the agent knows. Kept in a file, so that a new agent knows them too.
//
// No descriptor is held: it would keep the namespace of a dead pod alive. A namespace is opened by its path for each use, and its
// device and inode tell whether the path still leads to the same one.
import { closeSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { MeshError } from '#shared/errors.ts';
import { netnsIdentity, openNetns } from '#shared/os/netns.ts';

export interface KnownPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** As the host sees it. */
  readonly netnsPath: string;
  /** `DEV:INODE` */
  readonly netnsId: string;
  /** The sandbox that the runtime named; undefined for pods found without it. */
  readonly containerId?: string;
  readonly ips: readonly string[];
  /** A ztunnel serves it, and its rules are in (or may be). */
  readonly enrolled: boolean;
  /** What is in captures nothing: the pod joins, or, enrolled, it leaves. */
  readonly idle: boolean;
}

/** What identifies a sandbox in a DEL: a pod's old sandbox may go after its new one came. */
export interface SandboxRef {
  podName: string;
  podNamespace: string;
  podUid?: string | undefined;
  containerId?: string | undefined;
  netns?: string | undefined;
}

export class PodRegistry {
  #pods = new Map<string, KnownPod>();
  #file: string;
  #hostRoot: string;

  /** Throws when the file exists and is not what save() writes. */
  constructor(file: string, hostRoot = '') {
    this.#file = file;
    this.#hostRoot = hostRoot;
    for (const pod of load(file)) this.#pods.set(pod.uid, pod);
  }

  get(uid: string): KnownPod | undefined {
    return this.#pods.get(uid);
  }

  list(): KnownPod[] {
    return [...this.#pods.values()];
  }

  /** The pod whose sandbox this is; undefined when it has another one by now. */
  find(ref: SandboxRef): KnownPod | undefined {
    return this.list().find((pod) => {
      if (pod.name !== ref.podName || pod.namespace !== ref.podNamespace) return false;
      if (ref.podUid !== undefined && ref.podUid !== pod.uid) return false;
      if (ref.containerId !== undefined && pod.containerId !== undefined) return ref.containerId === pod.containerId;
      return ref.netns === undefined || ref.netns === '' || ref.netns === pod.netnsPath;
    });
  }

  put(pod: KnownPod): void {
    this.#pods.set(pod.uid, pod);
    this.#save();
  }

  forget(uid: string): void {
    if (this.#pods.delete(uid)) this.#save();
  }

  /** Device and inode of a namespace path; `not_found` when nothing is there. */
  identify(netnsPath: string): string {
    const fd = this.#openPath(netnsPath);
    try {
      return netnsIdentity(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** A descriptor of the pod's namespace, which the caller closes; `not_found` when the namespace is gone. */
  open(pod: KnownPod): number {
    const fd = this.#openPath(pod.netnsPath);
    if (netnsIdentity(fd) === pod.netnsId) return fd;
    closeSync(fd);
    throw new MeshError('not_found', `${pod.netnsPath} is no longer the network namespace of pod ${pod.namespace}/${pod.name}`);
  }

  /** Runs with the pod's namespace open. */
  async withNetns<T>(pod: KnownPod, run: (fd: number) => Promise<T>): Promise<T> {
    const fd = this.open(pod);
    try {
      return await run(fd);
    } finally {
      closeSync(fd);
    }
  }

  isAlive(pod: KnownPod): boolean {
    try {
      closeSync(this.open(pod));
      return true;
    } catch {
      return false;
    }
  }

  #openPath(netnsPath: string): number {
    try {
      return openNetns(this.#hostRoot + netnsPath);
    } catch (cause) {
      throw new MeshError('not_found', `cannot open network namespace ${this.#hostRoot}${netnsPath}: ${String(cause)}`, {
        cause,
      });
    }
  }

  #save(): void {
    const temporary = `${this.#file}.tmp`;
    writeFileSync(temporary, `${JSON.stringify({ pods: this.list() }, undefined, 1)}\n`, { mode: 0o600 });
    renameSync(temporary, this.#file);
  }
}

function load(file: string): KnownPod[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  const fault = (reason: string): MeshError =>
    new MeshError('invalid_config', `${file}: ${reason}; without it running pods must be found anew: move it away to start so`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fault(`not JSON: ${String(error)}`);
  }
  const pods = typeof value === 'object' && value !== null && 'pods' in value ? value.pods : undefined;
  if (!Array.isArray(pods) || !pods.every(isKnownPod)) throw fault('not a list of pods as this agent writes it');
  // Agents before this one knew no such state.
  return pods.map((pod) => ({ idle: false, ...pod }));
}

function isKnownPod(value: unknown): value is Omit<KnownPod, 'idle'> {
  if (typeof value !== 'object' || value === null) return false;
  const pod = value as Record<string, unknown>;
  const texts = ['uid', 'name', 'namespace', 'serviceAccount', 'netnsPath', 'netnsId'];
  return texts.every((key) => typeof pod[key] === 'string') && Array.isArray(pod['ips']) && typeof pod['enrolled'] === 'boolean';
}
