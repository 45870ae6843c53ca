// The names of a cluster as DNS records: a pure function from Services and Pods to a table, and from a question to its answer.
import type { Answer, Question } from 'dns-packet';
import { isIPv4, isIPv6 } from 'node:net';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import { servicePods } from '../endpoints.ts';
import { CLUSTER_DOMAIN } from '../plan.ts';

/** Lower-case names without the closing dot. */
export type DnsTable = ReadonlyMap<string, DnsName>;

interface DnsName {
  addresses: string[];
  /** ExternalName. */
  alias?: string;
}

export interface DnsAnswer {
  /** `NOERROR` with no answers: the name exists, but not with that type. */
  rcode: 'NOERROR' | 'NXDOMAIN';
  answers: Answer[];
}

/** Short, as pods come and go. Seconds. */
const TTL = 5;
/** More addresses than this do not fit into an answer over UDP. */
const MAX_ADDRESSES = 24;

export function dnsTable(services: readonly Service[], pods: readonly Pod[]): DnsTable {
  const table = new Map<string, DnsName>();
  for (const service of services) addService(table, service, pods);
  for (const pod of pods) {
    const ip = pod.status?.podIP;
    if (ip !== undefined)
      add(table, `${ip.replaceAll(/[.:]/gu, '-')}.${pod.metadata.namespace}.pod.${CLUSTER_DOMAIN}`, { addresses: [ip] });
  }
  return table;
}

export function answerQuestion(table: DnsTable, question: Pick<Question, 'name' | 'type'>): DnsAnswer {
  const found = table.get(question.name.toLowerCase().replace(/\.$/u, ''));
  if (!found) return { rcode: 'NXDOMAIN', answers: [] };
  const { name } = question;
  if (found.alias !== undefined) {
    const target = table.get(found.alias.toLowerCase());
    const alias: Answer = { type: 'CNAME', name, ttl: TTL, data: found.alias };
    return {
      rcode: 'NOERROR',
      answers: [alias, ...(target ? addressRecords(found.alias, question.type, target.addresses) : [])],
    };
  }
  return { rcode: 'NOERROR', answers: addressRecords(name, question.type, found.addresses) };
}

function addressRecords(name: string, type: string | undefined, addresses: readonly string[]): Answer[] {
  const wanted = addresses
    .filter((ip) => (type === 'A' && isIPv4(ip)) || (type === 'AAAA' && isIPv6(ip)))
    .slice(0, MAX_ADDRESSES);
  return wanted.map((ip) => ({ type: type === 'AAAA' ? 'AAAA' : 'A', name, ttl: TTL, data: ip }));
}

function addService(table: Map<string, DnsName>, service: Service, pods: readonly Pod[]): void {
  const { spec, metadata } = service;
  const name = `${metadata.name}.${metadata.namespace}.svc.${CLUSTER_DOMAIN}`;
  if (spec?.type === 'ExternalName' && spec.externalName !== undefined)
    add(table, name, { addresses: [], alias: spec.externalName });
  else if (spec?.clusterIP === 'None') {
    const members = servicePods(service, pods);
    add(table, name, { addresses: members.flatMap(({ status }) => status?.podIP ?? []) });
    for (const pod of members) {
      const { hostname, subdomain } = pod.spec ?? {};
      if (subdomain === metadata.name && pod.status?.podIP !== undefined)
        add(table, `${hostname ?? pod.metadata.name}.${name}`, { addresses: [pod.status.podIP] });
    }
  } else if (spec?.clusterIP !== undefined && spec.clusterIP !== '') add(table, name, { addresses: [spec.clusterIP] });
}

function add(table: Map<string, DnsName>, name: string, entry: DnsName): void {
  table.set(name.toLowerCase(), entry);
}
