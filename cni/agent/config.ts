// The configuration of the node agent: Istio's environment variables where it has them (facts: cni §1), read once into one value.
import { canonicalIp } from '#shared/address.ts';
import { EnvReader } from '#shared/env.ts';
import type { Env } from '#shared/env.ts';
import type { LogFormat } from '#shared/telemetry/log.ts';
import type { HostRules } from '../rules/host.ts';
import { DEFAULT_POD_RULES } from '../rules/pod.ts';
import type { PodRules } from '../rules/pod.ts';
import type { LeaveTimes } from './dataplane.ts';
import type { EnrolmentPolicy } from './enrolment.ts';

export interface AgentConfig {
  readonly nodeName: string;
  /** Holds pluginevent.sock and pods.json. */
  readonly runDir: string;
  readonly zdsPath: string;
  readonly objectDirs: readonly string[];
  readonly statusDir: string;
  readonly enrolment: EnrolmentPolicy;
  /** What a pod's rules are unless its annotations say otherwise. */
  readonly podRules: PodRules;
  readonly hostRules: HostRules;
  readonly leave: LeaveTimes;
  /** Where the host's /proc and /var/run/netns are seen: '' on the host itself, `/host` in a container. */
  readonly hostRoot: string;
  readonly readyPort: number;
  readonly monitoringPort: number;
  readonly logLevel: string;
  readonly logFormat: LogFormat;
}

/** Throws `invalid_config` with every fault. */
export function loadConfig(env: Env): AgentConfig {
  const read = new EnvReader(env);
  const ipv6 = read.boolean('AMBIENT_IPV6', true);
  const probeIp = address(read, 'HOST_PROBE_SNAT_IP', DEFAULT_POD_RULES.probeIp);
  const probeIp6 = address(read, 'HOST_PROBE_SNAT_IPV6', DEFAULT_POD_RULES.probeIp6);
  const config: AgentConfig = {
    nodeName: read.required('NODE_NAME', 'the name of the node that this agent runs on'),
    runDir: read.string('CNI_AGENT_RUN_DIR', '/var/run/culvert-cni'),
    zdsPath: read.string('ZTUNNEL_UDS_ADDRESS', '/var/run/ztunnel/ztunnel.sock'),
    objectDirs: list(read.required('OBJECT_DIRS', 'the folders of Kubernetes YAML, separated by colons'), ':'),
    statusDir: read.required('STATUS_DIR', 'the folder where this agent writes what it knows about pods'),
    enrolment: {
      excludeNamespaces: list(read.string('EXCLUDE_NAMESPACES', 'kube-system'), ','),
      systemNamespace: read.string('SYSTEM_NAMESPACE', 'culvert-system'),
    },
    podRules: { ...DEFAULT_POD_RULES, ipv6, dnsCapture: read.boolean('AMBIENT_DNS_CAPTURE', false), probeIp, probeIp6 },
    hostRules: { ipv6, kubeletUid: read.integer('KUBELET_UID', 0, { max: 0xffff_fffe }), probeIp, probeIp6 },
    leave: {
      // Longer than conntrack remembers questions to a name server (nf_conntrack_udp_timeout_stream, 120 s).
      minimum: read.duration('LEAVE_MINIMUM', 150_000),
      timeout: read.duration('LEAVE_TIMEOUT', 24 * 3_600_000),
    },
    hostRoot: read.string('HOST_ROOT', '').replace(/\/$/u, ''),
    readyPort: read.integer('READY_PORT', 8000, { max: 65_535 }),
    monitoringPort: read.integer('MONITORING_PORT', 15_014, { max: 65_535 }),
    logLevel: read.string('LOG_LEVEL', 'info'),
    logFormat: read.oneOf('LOG_FORMAT', ['text', 'json'], 'text'),
  };
  read.done();
  return config;
}

function list(text: string, separator: string): string[] {
  return text
    .split(separator)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}

/** Of the same family as the default. */
function address(read: EnvReader, name: string, fallback: string): string {
  const text = read.string(name, fallback);
  const ip = canonicalIp(text);
  if (ip !== undefined && ip.includes(':') === fallback.includes(':')) return ip;
  read.faults.push(`${name}="${text}": not an IPv${fallback.includes(':') ? 6 : 4} address`);
  return fallback;
}
