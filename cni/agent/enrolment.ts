// Whether a pod belongs to the mesh and how its traffic is captured: pure decisions from labels and annotations (facts: cni §4).
import type { Namespace, Pod } from '#shared/kube/kinds.ts';
import { isInterfaceName } from '../rules/pod.ts';
import type { PodRules } from '../rules/pod.ts';

export const MODE_LABEL = 'istio.io/dataplane-mode';
/** What the agent writes on pods: `enabled` (served and captured), `pending` (not captured: no ztunnel has taken it yet). */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';

export const ANNOTATION = {
  sidecar: 'sidecar.istio.io/status',
  bypassInbound: 'ambient.istio.io/bypass-inbound-capture',
  dnsCapture: 'ambient.istio.io/dns-capture',
  virtualInterfaces: 'istio.io/reroute-virtual-interfaces',
} as const;

export interface EnrolmentPolicy {
  excludeNamespaces: readonly string[];
  /** Where ztunnel itself runs. */
  systemNamespace: string;
}

/** `unknown`: the namespace has not been seen, so nothing that is may be changed on its account. */
export type Verdict = 'enrol' | 'leave-out' | 'unknown';

export interface Decision {
  verdict: Verdict;
  /** For logs: the first rule that decided. */
  reason: string;
}

/** Labels select; what comes before them can only exclude. */
export function decideEnrolment(pod: Pod, namespace: Namespace | undefined, policy: EnrolmentPolicy): Decision {
  const { labels = {}, annotations = {}, namespace: podNamespace } = pod.metadata;
  const no = (reason: string): Decision => ({ verdict: 'leave-out', reason });
  if (pod.spec?.hostNetwork === true) return no('the pod uses the network of its node');
  if (policy.excludeNamespaces.includes(podNamespace)) return no(`namespace ${podNamespace} is excluded`);
  if (annotations[ANNOTATION.sidecar] !== undefined) return no('the pod has a sidecar');
  if (podNamespace === policy.systemNamespace && labels['app'] === 'ztunnel') return no('the pod is a ztunnel');
  if (hasEnded(pod)) return no(`the pod has ended (${pod.status?.phase})`);

  const podMode = labels[MODE_LABEL];
  if (podMode === 'ambient') return { verdict: 'enrol', reason: `label ${MODE_LABEL}=ambient of the pod` };
  if (podMode === 'none') return no(`label ${MODE_LABEL}=none of the pod`);
  if (!namespace) return { verdict: 'unknown', reason: `namespace ${podNamespace} is not known` };
  if (namespace.metadata.labels?.[MODE_LABEL] === 'ambient')
    return { verdict: 'enrol', reason: `label ${MODE_LABEL}=ambient of namespace ${podNamespace}` };
  return no(`no label ${MODE_LABEL}=ambient on pod or namespace`);
}

export function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** The pod's rules: the node's defaults with the pod's own annotations over them. What cannot be read counts as unset and is a fault. */
export function podRuleOptions(pod: Pod, defaults: PodRules): { rules: PodRules; faults: string[] } {
  const annotations = pod.metadata.annotations ?? {};
  const faults: string[] = [];
  const boolean = (name: string, fallback: boolean): boolean => {
    const text = annotations[name]?.trim().toLowerCase();
    if (text === undefined) return fallback;
    if (['true', 't', '1'].includes(text)) return true;
    if (['false', 'f', '0'].includes(text)) return false;
    faults.push(`annotation ${name}="${annotations[name]}": not true or false`);
    return fallback;
  };
  const names = (annotations[ANNOTATION.virtualInterfaces] ?? '').split(',').map((name) => name.trim());
  const virtualInterfaces = names.filter((name) => {
    if (name === '') return false;
    if (isInterfaceName(name)) return true;
    faults.push(`annotation ${ANNOTATION.virtualInterfaces}: "${name}" is not the name of a network interface`);
    return false;
  });
  const rules = {
    ...defaults,
    dnsCapture: boolean(ANNOTATION.dnsCapture, defaults.dnsCapture),
    ingressMode: boolean(ANNOTATION.bypassInbound, defaults.ingressMode),
    virtualInterfaces: virtualInterfaces.length > 0 ? virtualInterfaces : defaults.virtualInterfaces,
  };
  return { rules, faults };
}
