// The resolver settings of a pod: its own resolv.conf, read through a process of it where this ztunnel sees the node's processes (host
// PID namespace), else the ztunnel's. Loopback name servers are the pod's own, asking us what they do not know: they are never asked.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '#shared/clock.ts';
import type { PodProcesses } from './pod-processes.ts';
import type { ResolvConf } from './resolv-conf.ts';
import { parseResolvConf } from './resolv-conf.ts';

const NOTHING = parseResolvConf('');

/** How long what was read holds, ms. */
const FRESH = 10_000;
/** No resolv.conf is this long; what a pod puts there may be anything. */
const MAX_FILE = 64 * 1024;

export interface PodSettingsDeps {
  /** Of the pod's network namespace, as `netnsIdentity` has it; undefined when the pod is the ztunnel's own. */
  readonly netnsId: string | undefined;
  readonly processes: PodProcesses;
  /** The ztunnel's own: `/etc/resolv.conf`. */
  readonly fallback: string;
  readonly clock: Clock;
}

export class PodSettings {
  readonly #deps: PodSettingsDeps;
  #last: Promise<ResolvConf> | undefined;
  #readAt = 0;
  /** What the pod's own file said. A pod between two processes has it still. */
  #own: ResolvConf | undefined;

  constructor(deps: PodSettingsDeps) {
    this.#deps = deps;
  }

  /** Never rejects: without any readable file there are no name servers. Only the first caller waits for a file. */
  current(): Promise<ResolvConf> {
    const now = this.#deps.clock.monotonic();
    if (this.#last && now - this.#readAt < FRESH) return this.#last;
    this.#readAt = now;
    const next = this.#load();
    this.#last ??= next;
    void next.then(() => (this.#last = next));
    return this.#last;
  }

  async #load(): Promise<ResolvConf> {
    const { netnsId, processes, fallback } = this.#deps;
    const ours = await readFile(fallback);
    if (netnsId === undefined) return ours?.settings ?? NOTHING;
    this.#own = (await this.#ownOf(await processes.rootsOf(netnsId), ours?.identity)) ?? this.#own;
    const own = this.#own;
    const servers = own && withoutLoopback(own);
    if (servers && servers.nameservers.length > 0) return servers;
    const other = withoutLoopback(ours?.settings ?? NOTHING);
    return own ? { ...other, search: own.search } : other;
  }

  /** A process that has not entered its container yet sees the file of the node: that is not the pod's. */
  async #ownOf(roots: readonly string[], ours: string | undefined): Promise<ResolvConf | undefined> {
    for (const root of roots) {
      const file = await readFile(join(root, 'etc/resolv.conf'));
      if (file && file.identity !== ours) return file.settings;
    }
    return undefined;
  }
}

interface SettingsFile {
  readonly settings: ResolvConf;
  /** What tells the file apart, whatever path it was found by. */
  readonly identity: string;
}

async function readFile(path: string): Promise<SettingsFile | undefined> {
  try {
    // A pod owns its path: it may have put a pipe there, or a link that would be followed in our own root.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    const stat = await file.stat({ bigint: true });
    if (!stat.isFile()) return undefined;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE), 0, MAX_FILE, 0);
    return { settings: parseResolvConf(buffer.toString('utf8', 0, bytesRead)), identity: `${stat.dev}:${stat.ino}` };
  } catch {
    return undefined;
  }
}

function withoutLoopback(settings: ResolvConf): ResolvConf {
  return { ...settings, nameservers: settings.nameservers.filter((ip) => !(isIPv4(ip) ? ip.startsWith('127.') : ip === '::1')) };
}
