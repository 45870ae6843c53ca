// Which identity a caller may have a certificate for: its own, or, for a node proxy, that of a pod on its node.
import { parseSpiffeId } from '#shared/ids.ts';
import type { Caller } from './authenticate.ts';

export interface PodInfo {
  namespace: string;
  name: string;
  uid: string;
  serviceAccount: string;
  nodeName: string;
  /** `Failed` and `Succeeded` pods run no more. */
  phase?: string | undefined;
}

/** The pods that the control plane knows of. */
export interface PodLookup {
  pod(namespace: string, name: string): PodInfo | undefined;
  podsOnNode(nodeName: string): Iterable<PodInfo>;
}

export interface ImpersonationRule {
  trustDomain: string;
  /** `NAMESPACE/SERVICE-ACCOUNT` of node proxies. */
  trustedNodeAccounts: readonly string[];
  pods: PodLookup;
}

/** Undefined when `wanted` may be issued to the caller; else the reason why not. */
export function refuseIdentity(rule: ImpersonationRule, caller: Caller, wanted: string): string | undefined {
  if (wanted === caller.identity) return undefined;
  const parts = parseSpiffeId(wanted);
  if (!parts) return `"${wanted}" is not a SPIFFE ID of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`;
  if (parts.trustDomain !== rule.trustDomain) return `${wanted} is not of trust domain ${rule.trustDomain}`;
  const account = `${caller.namespace}/${caller.serviceAccount}`;
  if (!rule.trustedNodeAccounts.includes(account))
    return `${account} is not a trusted node account and may only ask for its own identity`;
  const node = nodeOf(rule.pods, caller);
  if ('refusal' in node) return node.refusal;
  for (const pod of rule.pods.podsOnNode(node.name)) {
    const runs = pod.phase !== 'Failed' && pod.phase !== 'Succeeded';
    if (runs && pod.namespace === parts.namespace && pod.serviceAccount === parts.serviceAccount) return undefined;
  }
  return `no pod of ${parts.namespace}/${parts.serviceAccount} runs on node ${node.name}`;
}

/** The caller's node: what its pod object says, which must fit the token; a pod unknown to us counts for what its signed token says. */
function nodeOf(pods: PodLookup, caller: Caller): { name: string } | { refusal: string } {
  if (!caller.pod) return { refusal: 'a node proxy must identify itself by a token bound to its pod, not by a certificate' };
  const pod = pods.pod(caller.namespace, caller.pod.name);
  if (!pod)
    return caller.pod.nodeName === ''
      ? { refusal: `the token of pod ${caller.pod.name} names no node` }
      : { name: caller.pod.nodeName };
  const where = `pod ${caller.namespace}/${caller.pod.name}`;
  if (pod.uid !== caller.pod.uid) return { refusal: `the token is of an earlier ${where}` };
  if (pod.serviceAccount !== caller.serviceAccount) return { refusal: `${where} does not run as ${caller.serviceAccount}` };
  return { name: pod.nodeName };
}
