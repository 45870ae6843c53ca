// Every mode of the rules, by the name of its golden file.
import type { HostRules } from '../../../cni/rules/host.ts';
import type { PodRules } from '../../../cni/rules/pod.ts';
import { DEFAULT_POD_RULES as DEFAULTS } from '../../../cni/rules/pod.ts';

export const POD_VARIANTS: Record<string, PodRules> = {
  default: DEFAULTS,
  ipv4: { ...DEFAULTS, ipv6: false },
  'no-dns': { ...DEFAULTS, dnsCapture: false },
  'ipv4-no-dns': { ...DEFAULTS, ipv6: false, dnsCapture: false },
  ingress: { ...DEFAULTS, ingressMode: true },
  'virtual-interfaces': { ...DEFAULTS, virtualInterfaces: ['k6t-eth0', 'docker0'] },
  'ingress-virtual-interfaces': { ...DEFAULTS, ingressMode: true, virtualInterfaces: ['k6t-eth0'] },
};

export const HOST: HostRules = { ipv6: true, kubeletUid: 0, probeIp: DEFAULTS.probeIp, probeIp6: DEFAULTS.probeIp6 };
