// resolv.conf(5): the part that a forwarder follows. Lines that say nothing to it are passed over, as every resolver does.
import { canonicalIp } from '#shared/address.ts';

export interface ResolvConf {
  /** Canonical addresses, in order. */
  readonly nameservers: readonly string[];
  /** Lower-case, without the closing dot. */
  readonly search: readonly string[];
  /** Milliseconds for one answer. */
  readonly timeout: number;
  /** How often all name servers are tried. */
  readonly attempts: number;
}

/** As the resolver of glibc has them. */
const LIMIT = { nameservers: 3, search: 32, timeout: 30, attempts: 5 } as const;
const DEFAULT = { timeout: 5, attempts: 2 } as const;

export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  let { timeout, attempts }: { timeout: number; attempts: number } = DEFAULT;
  for (const line of text.split('\n')) {
    const [keyword, ...words] = line
      .replace(/[#;].*/u, '')
      .trim()
      .split(/\s+/u);
    if (keyword === 'nameserver') {
      // A zone (fe80::1%eth0) has no meaning outside of its file.
      const ip = canonicalIp(words[0] ?? '');
      if (ip !== undefined && !nameservers.includes(ip)) nameservers.push(ip);
    } else if (keyword === 'search' || keyword === 'domain') {
      search = words.map((word) => word.toLowerCase().replace(/\.$/u, '')).filter((word) => word !== '');
    } else if (keyword === 'options') {
      timeout = option(words, 'timeout', LIMIT.timeout) ?? timeout;
      attempts = option(words, 'attempts', LIMIT.attempts) ?? attempts;
    }
  }
  return {
    nameservers: nameservers.slice(0, LIMIT.nameservers),
    search: search.slice(0, LIMIT.search),
    timeout: timeout * 1000,
    attempts,
  };
}

function option(words: readonly string[], name: string, max: number): number | undefined {
  for (const word of words) {
    const [, digits] = new RegExp(`^${name}:(\\d{1,9})$`, 'u').exec(word) ?? [];
    if (digits !== undefined) return Math.min(max, Math.max(1, Number(digits)));
  }
  return undefined;
}
