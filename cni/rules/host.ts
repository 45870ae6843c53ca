// The host's side of kubelet probes: connections that the kubelet opens to an enrolled pod get a source address of their own, which
// the pod's rules let through. Whatever else reaches the pod from this node keeps its address and is captured (facts: cni §7).
import { isIPv6 } from 'node:net';
import type { Chain } from './pod.ts';
import { replaceTable } from './pod.ts';

export interface HostRules {
  ipv6: boolean;
  /** User id that the kubelet runs as: nftables can tell who owns a local socket, not whether there is one. */
  kubeletUid: number;
  probeIp: string;
  probeIp6: string;
}

/** The table of the host, in the node's network namespace. */
export const HOST_TABLE = 'inet culvert_probes';
const SET4 = 'pods4';
const SET6 = 'pods6';

export function hostChains(options: HostRules): Chain[] {
  const local = `meta l4proto tcp meta skuid ${options.kubeletUid}`;
  return [
    {
      name: 'probes',
      hook: 'type nat hook postrouting priority 100',
      rules: [
        `${local} ip daddr @${SET4} counter snat ip to ${options.probeIp}`,
        ...(options.ipv6 ? [`${local} ip6 daddr @${SET6} counter snat ip6 to ${options.probeIp6}`] : []),
      ],
    },
  ];
}

/** The text that creates or replaces the host's rules with exactly these pods' addresses. */
export function hostRules(options: HostRules, podIps: Iterable<string>): string {
  const sets = [set(SET4, 'ipv4_addr'), ...(options.ipv6 ? [set(SET6, 'ipv6_addr')] : [])].join('');
  return replaceTable(HOST_TABLE, hostChains(options), sets) + addProbed(options, podIps);
}

function set(name: string, type: string): string {
  return `  set ${name} {\n    type ${type}\n  }\n\n`;
}

/** Adds addresses to the sets; one that is there already is no error. */
export function addProbed(options: Pick<HostRules, 'ipv6'>, podIps: Iterable<string>): string {
  return elements('add', options, podIps);
}

/** Takes addresses out; one that is not there is no error, hence the add before it. */
export function removeProbed(options: Pick<HostRules, 'ipv6'>, podIps: Iterable<string>): string {
  const ips = [...podIps];
  return elements('add', options, ips) + elements('delete', options, ips);
}

function elements(verb: 'add' | 'delete', options: Pick<HostRules, 'ipv6'>, podIps: Iterable<string>): string {
  const ips = [...podIps];
  const v4 = ips.filter((ip) => !isIPv6(ip));
  const v6 = options.ipv6 ? ips.filter((ip) => isIPv6(ip)) : [];
  return (
    (v4.length > 0 ? `${verb} element ${HOST_TABLE} ${SET4} { ${v4.join(', ')} }\n` : '') +
    (v6.length > 0 ? `${verb} element ${HOST_TABLE} ${SET6} { ${v6.join(', ')} }\n` : '')
  );
}

export const REMOVE_HOST_RULES = `add table ${HOST_TABLE}\ndelete table ${HOST_TABLE}\n`;
