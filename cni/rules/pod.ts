// The nftables rules of an enrolled pod, as text: what leaves the pod goes to the ztunnel's 15001, what arrives goes to its 15006.
//
// Facts: cni §6, with two changes.
// - Only the first SYN of a connection is redirected (design D5). Conntrack starts tracking when the rules appear and takes the
//   next packet of an open connection for a new flow; matching the SYN alone leaves that connection where it is. Replies are never
//   a bare SYN either, so the exceptions Istio needs for them have nothing left to do.
// - One table with a base chain per hook and priority: it is added, replaced and deleted in one transaction.
import { PORT } from '#shared/ports.ts';
import { MeshError } from '#shared/errors.ts';
import { CONN_MARK, IPV4_PROBE, IPV6_PROBE, MARK_MASK, ZTUNNEL_MARK } from './constants.ts';

export interface PodRules {
  /** Capture IPv6 too. When false IPv6 traffic passes untouched: only for clusters without it. */
  ipv6: boolean;
  /** Send the pod's DNS queries to the ztunnel's resolver. */
  dnsCapture: boolean;
  /** Leave inbound plaintext alone: the pod is a gateway that takes traffic from outside the mesh. */
  ingressMode: boolean;
  /** TCP that arrives on these interfaces (virtual machines, nested containers) counts as outbound. */
  virtualInterfaces: readonly string[];
  /** Source addresses of kubelet probes, given to them by the host's rules. */
  probeIp: string;
  probeIp6: string;
}

export const DEFAULT_POD_RULES: PodRules = {
  ipv6: true,
  dnsCapture: true,
  ingressMode: false,
  virtualInterfaces: [],
  probeIp: IPV4_PROBE,
  probeIp6: IPV6_PROBE,
};

/** The table of a pod, in the pod's network namespace. */
export const POD_TABLE = 'inet culvert';

export interface Chain {
  readonly name: string;
  /** `type … hook … priority …` of the base chain. */
  readonly hook: string;
  readonly rules: readonly string[];
}

const FIRST_SYN = 'tcp flags & (fin | syn | rst | ack) == syn';
const FROM_ZTUNNEL = `meta mark & ${MARK_MASK} == ${ZTUNNEL_MARK}`;
const NOT_FROM_ZTUNNEL = `meta mark & ${MARK_MASK} != ${ZTUNNEL_MARK}`;

/** The chains of a pod's table; those without rules are left out. Rules are in the order a packet meets them. */
export function podChains(options: PodRules): Chain[] {
  options.virtualInterfaces.forEach(checkInterface);
  const family = options.ipv6 ? '' : 'meta nfproto ipv4 ';
  const chains: Chain[] = [
    { name: 'dns_zone_in', hook: 'type filter hook prerouting priority -300', rules: options.dnsCapture ? dnsZoneIn() : [] },
    { name: 'dns_zone_out', hook: 'type filter hook output priority -300', rules: options.dnsCapture ? dnsZoneOut() : [] },
    { name: 'mark_in', hook: 'type filter hook prerouting priority -150', rules: markIn() },
    { name: 'mark_out', hook: 'type route hook output priority -150', rules: markOut() },
    { name: 'capture_in', hook: 'type nat hook prerouting priority -100', rules: captureIn(options, family) },
    { name: 'capture_out', hook: 'type nat hook output priority -100', rules: captureOut(options, family) },
    { name: 'refuse_in', hook: 'type filter hook input priority 0', rules: refuseIn() },
  ];
  return chains.filter((chain) => chain.rules.length > 0);
}

/**
 * Remembers connections that the ztunnel opened to the application from the original client's address, and tells the application's socket,
 * which takes its mark from the packet that opens it (`cni/rules/apply.ts`).
 */
function markIn(): string[] {
  const marked = (what: string): string => `${what} set ${what} & 0xfffff000 | ${CONN_MARK}`;
  return [`${FROM_ZTUNNEL} ct direction original counter ${marked('ct mark')} ${marked('meta mark')}`];
}

/**
 * Marks the application's replies on them, so that the routing rule brings them back to the ztunnel instead of to the client: those of a
 * socket that has another mark, or none. A packet whose mark changes here is routed a second time.
 */
function markOut(): string[] {
  const unmarked = `meta mark & ${MARK_MASK} != ${CONN_MARK}`;
  return [`${unmarked} ct direction reply ct mark & ${MARK_MASK} == ${CONN_MARK} counter meta mark set ct mark`];
}

/**
 * Answers what the application sends on such a connection when the ztunnel has none any more: a RST, as the kernel gives wherever a socket
 * is missing. Here it can't: its answer would come from the client's address, which is not the pod's. The application would wait for ever
 * when the first RST was lost, or overtook data (decision 0004).
 */
function refuseIn(): string[] {
  const reply = `ct direction reply ct mark & ${MARK_MASK} == ${CONN_MARK}`;
  return [`${reply} socket transparent { 0, 1 } accept`, `${reply} tcp flags & (syn | rst) == 0 counter reject with tcp reset`];
}

function captureIn(options: PodRules, family: string): string[] {
  const virtual = options.virtualInterfaces.flatMap((name) => [
    `iifname "${name}" ${family}${FIRST_SYN} counter redirect to :${PORT.outbound}`,
    `iifname "${name}" meta l4proto tcp counter accept`,
  ]);
  if (options.ingressMode) return virtual;
  return [
    ...virtual,
    `meta l4proto tcp ip saddr ${options.probeIp} counter accept`,
    ...(options.ipv6 ? [`meta l4proto tcp ip6 saddr ${options.probeIp6} counter accept`] : []),
    // What comes by loopback was sent inside the pod: by the ztunnel, or by the application to itself.
    `iifname != "lo" ${family}tcp dport != ${PORT.hbone} ${FIRST_SYN} counter redirect to :${PORT.inboundPlaintext}`,
  ];
}

function captureOut(options: PodRules, family: string): string[] {
  // A destination of the pod's own is routed by loopback: the application calling itself is not proxied.
  const outside = `oifname != "lo" ${family}${NOT_FROM_ZTUNNEL}`;
  const dns = [
    `${outside} udp dport 53 counter redirect to :${PORT.dns}`,
    `${outside} tcp dport 53 ${FIRST_SYN} counter redirect to :${PORT.dns}`,
  ];
  return [...(options.dnsCapture ? dns : []), `${outside} ${FIRST_SYN} counter redirect to :${PORT.outbound}`];
}

/** The ztunnel's own queries have a conntrack zone to themselves: its ports may equal the application's (Istio issue 33469). */
function dnsZoneOut(): string[] {
  return [`udp dport 53 ${FROM_ZTUNNEL} counter ct zone set 1`];
}

function dnsZoneIn(): string[] {
  return [`udp sport 53 ${NOT_FROM_ZTUNNEL} counter ct zone set 1`];
}

export function isInterfaceName(name: string): boolean {
  return /^[A-Za-z0-9_.@-]{1,15}$/u.test(name);
}

/** Interface names come from an annotation and end up inside quotes. */
function checkInterface(name: string): void {
  if (!isInterfaceName(name))
    throw new MeshError('invalid_config', `"${name}" is not the name of a network interface (1 to 15 letters, digits, _ . @ -)`);
}

/** The text that creates or replaces the pod's rules in one transaction. */
export function podRules(options: PodRules): string {
  return replaceTable(POD_TABLE, podChains(options));
}

/** Every question to a name server, and its answer, in a conntrack zone in which none is translated. */
const DNS_APART: readonly Chain[] = [
  { name: 'dns_zone_in', hook: 'type filter hook prerouting priority -300', rules: ['udp sport 53 counter ct zone set 1'] },
  { name: 'dns_zone_out', hook: 'type filter hook output priority -300', rules: ['udp dport 53 counter ct zone set 1'] },
];

/**
 * The rules but for those that capture: of a pod before it joins, and while it leaves. What passes through the ztunnel goes on; its addresses
 * are translated for as long as there is a chain of type nat, with rules or without. Names that are asked for from now on do not: the
 * kernel would take a question from a port that asked the ztunnel before (UDP, up to two minutes) for one more of those.
 */
export function idleRules(options: PodRules): string {
  const chains = podChains({ ...options, dnsCapture: false, ingressMode: false });
  const idle = chains.map((chain) => (chain.name.startsWith('capture_') ? { ...chain, rules: [] } : chain));
  return replaceTable(POD_TABLE, [...(options.dnsCapture ? DNS_APART : []), ...idle]);
}

/** What makes the rules of idleRules(), of the same options. */
export function captureRules(options: PodRules): string {
  const changes = podChains(options).flatMap(({ name, rules }) => {
    const added = rules.map((rule) => `add rule ${POD_TABLE} ${name} ${rule}\n`);
    if (name.startsWith('dns_zone_')) return [`flush chain ${POD_TABLE} ${name}\n`, ...added];
    return name.startsWith('capture_') ? added : [];
  });
  return changes.join('');
}

/** The text that removes them; also when there are none. */
export const REMOVE_POD_RULES = `add table ${POD_TABLE}\ndelete table ${POD_TABLE}\n`;

/** Adding a table that exists is no error, deleting one that does not is: hence both, before the new one. */
export function replaceTable(table: string, chains: readonly Chain[], sets = ''): string {
  const body = chains.map(
    (chain) =>
      `  chain ${chain.name} {\n    ${chain.hook}; policy accept;\n${chain.rules.map((rule) => `    ${rule}\n`).join('')}  }\n`,
  );
  return `add table ${table}\ndelete table ${table}\ntable ${table} {\n${sets}${body.join('\n')}}\n`;
}
