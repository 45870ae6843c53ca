// Finds the network namespace of a pod that was running before the agent: by the pod's UID in the cgroup of one of its processes
// and by the pod's address on one of the namespace's interfaces (facts: cni §5).
import { closeSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { canonicalIp } from '#shared/address.ts';
import { inNetns, netnsIdentity, openNetns } from '#shared/os/netns.ts';

export interface NetnsCandidate {
  /** `/proc/PID/ns/net`, as the host sees it. */
  netnsPath: string;
  netnsId: string;
  /** Clock ticks since boot; the oldest process is the pod's sandbox. */
  startTime: number;
}

/** The UID in canonical form that a process's cgroup file names; undefined for none, or when it names two. */
export function podUidOfCgroup(text: string): string | undefined {
  const found = new Set<string>();
  const pattern = /[-/_.]pod([0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})(?=[-/_.\n]|$)/giu;
  for (const [, uid = ''] of text.matchAll(pattern)) found.add(canonicalUid(uid));
  return found.size === 1 ? [...found][0] : undefined;
}

/** Runtimes write the UID with `-`, with `_`, or (static pods) with nothing between its groups. */
function canonicalUid(uid: string): string {
  return uid.toLowerCase().replaceAll(/[-_]/gu, '');
}

/** Field 22 of /proc/PID/stat; the command in field 2 may contain anything, parentheses too. */
export function startTimeOfStat(text: string): number {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return Number(fields[19]);
}

export class ProcScanner {
  #hostRoot: string;
  #running: Promise<Map<string, NetnsCandidate[]>> | undefined;

  constructor(hostRoot = '') {
    this.#hostRoot = hostRoot;
  }

  /** The pod's namespace; undefined when no process of it was found. Calls at the same time share one walk through /proc. */
  async find(uid: string, ips: readonly string[]): Promise<NetnsCandidate | undefined> {
    this.#running ??= this.#scan().finally(() => (this.#running = undefined));
    const candidates = (await this.#running).get(canonicalUid(uid)) ?? [];
    return candidates.toSorted((a, b) => a.startTime - b.startTime).find((candidate) => this.#hasAddress(candidate, ips));
  }

  async #scan(): Promise<Map<string, NetnsCandidate[]>> {
    const proc = `${this.#hostRoot}/proc`;
    const host = this.#identify('/proc/1/ns/net');
    const found = new Map<string, NetnsCandidate[]>();
    for (const pid of (await readdir(proc)).filter((name) => /^\d+$/u.test(name))) {
      try {
        const uid = podUidOfCgroup(await readFile(`${proc}/${pid}/cgroup`, 'utf8'));
        if (uid === undefined) continue;
        const netnsPath = `/proc/${pid}/ns/net`;
        const netnsId = this.#identify(netnsPath);
        if (netnsId === host) continue;
        const startTime = startTimeOfStat(await readFile(`${proc}/${pid}/stat`, 'utf8'));
        found.set(uid, [...(found.get(uid) ?? []), { netnsPath, netnsId, startTime }]);
      } catch {
        // The process ended while it was looked at.
      }
    }
    return found;
  }

  #identify(netnsPath: string): string {
    const fd = openNetns(this.#hostRoot + netnsPath);
    try {
      return netnsIdentity(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** A process of the pod may live in a namespace of its own making; the pod's has the pod's address. */
  #hasAddress({ netnsPath, netnsId }: NetnsCandidate, ips: readonly string[]): boolean {
    let fd: number;
    try {
      fd = openNetns(this.#hostRoot + netnsPath);
    } catch {
      return false;
    }
    try {
      if (netnsIdentity(fd) !== netnsId) return false;
      const interfaces = inNetns(fd, () => networkInterfaces());
      const addresses = Object.values(interfaces).flatMap((list) => list ?? []);
      return addresses.some(({ address }) => ips.includes(canonicalIp(address) ?? ''));
    } finally {
      closeSync(fd);
    }
  }
}
