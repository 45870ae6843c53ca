// The target of a CONNECT: `IP:port`, `[v6]:port` or `host:port`; the port is never left out (facts: ztunnel 4).
import { canonicalIp, formatHostPort, type HostPort } from '../address.ts';

export type Authority =
  | { readonly kind: 'ip'; readonly address: HostPort }
  /** Lower case. */
  | { readonly kind: 'host'; readonly host: string; readonly port: number };

const BRACKETED = /^\[([^\]]*)\]:(\d{1,5})$/u;
const PLAIN = /^([^:[\]]+):(\d{1,5})$/u;
const LABEL = '[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?';
const HOST = new RegExp(`^${LABEL}(\\.${LABEL})*\\.?$`, 'u');

/** Undefined when the text is no authority with a port from 1 to 65535. */
export function parseAuthority(text: string): Authority | undefined {
  const bracketed = BRACKETED.exec(text);
  const match = bracketed ?? PLAIN.exec(text);
  const [, name = '', digits = ''] = match ?? [];
  const port = Number(digits);
  if (port < 1 || port > 65_535) return undefined;
  const ip = canonicalIp(name);
  if (bracketed && !name.includes(':')) return undefined;
  if (ip !== undefined) return { kind: 'ip', address: { ip, port } };
  const host = name.toLowerCase();
  // A name of digits and dots only would be a broken IPv4 address.
  if (bracketed || host.length > 253 || !HOST.test(host) || /^[\d.]+$/u.test(host)) return undefined;
  return { kind: 'host', host, port };
}

export function formatAuthority(authority: Authority): string {
  return authority.kind === 'ip' ? formatHostPort(authority.address) : `${authority.host}:${authority.port}`;
}
