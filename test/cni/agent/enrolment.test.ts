// The decision tables of facts cni §4.
import t from 'tap';
import { decideEnrolment, podRuleOptions } from '../../../cni/agent/enrolment.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod.ts';
import type { Namespace, Pod } from '../../../shared/kube/kinds.ts';

const policy = { excludeNamespaces: ['kube-system'], systemNamespace: 'culvert-system' };

interface Given {
  pod?: string;
  /** The namespace's label; null when the namespace is not known. */
  namespace?: string | null;
  in?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  hostNetwork?: boolean;
  phase?: 'Running' | 'Succeeded' | 'Failed';
}

function aPod({
  pod,
  in: namespace = 'shop',
  labels = {},
  annotations = {},
  hostNetwork = false,
  phase = 'Running',
}: Given): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'p',
      namespace,
      labels: { ...labels, ...(pod === undefined ? {} : { 'istio.io/dataplane-mode': pod }) },
      annotations,
    },
    spec: { hostNetwork, containers: [] },
    status: { phase },
  };
}

function aNamespace(name: string, mode: string | undefined): Namespace {
  const labels: Record<string, string> = mode === undefined ? {} : { 'istio.io/dataplane-mode': mode };
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, namespace: '', labels } };
}

const TABLE: [given: Given, verdict: string, reason: RegExp][] = [
  [{}, 'leave-out', /no label/u],
  [{ namespace: 'ambient' }, 'enrol', /namespace shop/u],
  [{ namespace: 'none' }, 'leave-out', /no label/u],
  [{ pod: 'ambient' }, 'enrol', /of the pod/u],
  [{ pod: 'ambient', namespace: 'none' }, 'enrol', /of the pod/u],
  [{ pod: 'ambient', namespace: null }, 'enrol', /of the pod/u],
  [{ pod: 'none', namespace: 'ambient' }, 'leave-out', /none of the pod/u],
  [{ pod: 'none', namespace: null }, 'leave-out', /none of the pod/u],
  [{ pod: 'other', namespace: 'ambient' }, 'enrol', /namespace/u],
  [{ pod: 'other' }, 'leave-out', /no label/u],
  [{ namespace: null }, 'unknown', /namespace shop is not known/u],
  [{ pod: 'ambient', hostNetwork: true }, 'leave-out', /network of its node/u],
  [{ pod: 'ambient', annotations: { 'sidecar.istio.io/status': '{}' } }, 'leave-out', /sidecar/u],
  [{ pod: 'ambient', in: 'kube-system' }, 'leave-out', /excluded/u],
  [{ namespace: 'ambient', in: 'culvert-system', labels: { app: 'ztunnel' } }, 'leave-out', /ztunnel/u],
  [{ namespace: 'ambient', labels: { app: 'ztunnel' } }, 'enrol', /namespace/u],
  [{ pod: 'ambient', phase: 'Succeeded' }, 'leave-out', /ended/u],
  [{ pod: 'ambient', phase: 'Failed' }, 'leave-out', /ended/u],
];

t.test('who is enrolled', async (t) => {
  for (const [given, verdict, reason] of TABLE) {
    const { namespace } = given;
    const pod = aPod(given);
    const object = namespace === null ? undefined : aNamespace(pod.metadata.namespace, namespace);
    t.match(decideEnrolment(pod, object, policy), { verdict, reason }, JSON.stringify(given));
  }
});

t.test('annotations over the defaults', async (t) => {
  const rules = (annotations: Record<string, string>, defaults = DEFAULT_POD_RULES): ReturnType<typeof podRuleOptions> =>
    podRuleOptions(aPod({ annotations }), defaults);
  t.same(rules({}), { rules: DEFAULT_POD_RULES, faults: [] });
  t.match(rules({ 'ambient.istio.io/dns-capture': 'false' }), { rules: { dnsCapture: false }, faults: [] });
  t.match(rules({ 'ambient.istio.io/dns-capture': ' True ' }, { ...DEFAULT_POD_RULES, dnsCapture: false }), {
    rules: { dnsCapture: true },
  });
  t.match(rules({ 'ambient.istio.io/bypass-inbound-capture': 'true' }), { rules: { ingressMode: true } });
  t.match(rules({ 'ambient.istio.io/bypass-inbound-capture': 'perhaps' }), {
    rules: { ingressMode: false },
    faults: [/bypass-inbound-capture="perhaps": not true or false/u],
  });
  t.match(rules({ 'istio.io/reroute-virtual-interfaces': 'k6t-eth0, docker0,,' }), {
    rules: { virtualInterfaces: ['k6t-eth0', 'docker0'] },
    faults: [],
  });
  t.match(rules({ 'istio.io/reroute-virtual-interfaces': 'ok,"; drop' }), {
    rules: { virtualInterfaces: ['ok'] },
    faults: [/not the name of a network interface/u],
  });
});
