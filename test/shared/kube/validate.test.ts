// What the validator accepts, and how it names what it refuses.
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { formatFieldPath } from '../../../shared/kube/field-path.ts';
import { Validator } from '../../../shared/kube/validate.ts';

const validator = new Validator();

/** `FIELD: REASON` of each fault. */
function faults(yaml: string): string[] {
  const result = validator.validate(parse(yaml));
  return result.ok ? [] : result.faults.map(({ path, reason }) => `${formatFieldPath(path) ?? ''}: ${reason}`);
}

const POD = 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n';
const SERVICE = 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\n';
const DEPLOYMENT = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n';
const GATEWAY = 'apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n';
const CLASS = 'apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: a}\n';
const ROUTE = 'apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n';
const POLICY = 'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n';
const PEER = 'apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\n';

t.test('accepts ordinary objects', async (t) => {
  const good = {
    pod: `${POD}spec:
  containers:
  - name: app
    image: nginx
    command: [nginx]
    env: [{name: A, value: "1"}, {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    ports: [{containerPort: 80, name: http}]
    resources: {requests: {cpu: 1, memory: 64Mi}, limits: {cpu: 500m}}
    readinessProbe: {httpGet: {path: /, port: http}}
    securityContext: {runAsUser: 1000}
  tolerations: [{operator: Exists}]
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}], startTime: "2026-01-01T00:00:00Z"}`,
    service: `${SERVICE}spec: {selector: {a: b}, clusterIP: 10.0.0.1, ports: [{name: a, port: 80, targetPort: http}, {name: b, port: 81, targetPort: 8081}]}`,
    deployment: `${DEPLOYMENT}spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a}]}}}`,
    node: 'apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/region: r}}\nspec: {podCIDR: 10.1.0.0/24}',
    serviceAccount:
      'apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: n, namespace: x}\nautomountServiceAccountToken: false',
    configMap: 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n}\ndata: {a: b}',
    gateway: `${GATEWAY}spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}]}
status: {addresses: [{value: 10.0.0.1}]}`,
    class: `${CLASS}spec: {controllerName: istio.io/mesh-controller}`,
    route: `${ROUTE}spec:
  parentRefs: [{group: "", kind: Service, name: b, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}, headers: [{name: a, value: b}], method: GET}]
    backendRefs: [{name: b, port: 80, weight: 90}, {name: c, port: 80, weight: 10, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]
    timeouts: {request: 1s}`,
    policy: `${POLICY}spec: {action: DENY, selector: {matchLabels: {a: b}}, rules: [{from: [{source: {principals: ["*"], ipBlocks: [10.0.0.0/8]}}], to: [{operation: {ports: ["80"], methods: [GET]}}], when: [{key: source.namespace, values: [x]}]}]}`,
    targets: `${POLICY}spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}], rules: [{}]}`,
    peer: `${PEER}spec: {selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}`,
  };
  for (const [name, yaml] of Object.entries(good)) t.same(faults(yaml), [], name);
});

t.test('names the field and the reason', async (t) => {
  const bad: [string, string][] = [
    ['a: 1', 'kind: is required'],
    ['apiVersion: v1\nkind: CronJob\nmetadata: {name: a}', 'kind: CronJob is not one of the kinds that are read: Namespace'],
    ['apiVersion: v2\nkind: Pod\nmetadata: {name: a}', 'apiVersion: must be v1 for Pod, is v2'],
    ['apiVersion: v1\nkind: Pod\nmetadata: {}', 'metadata.name: is required'],
    ['apiVersion: v1\nkind: Pod\nmetadata: {name: ../a}', 'metadata.name: "../a" is not a name'],
    ['apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a/b}', 'metadata.namespace: "a/b" is not a namespace name'],
    ['apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}', 'metadata.namespace: must not be set'],
    [`${POD}spec: {container: []}`, 'spec.container: unknown field'],
    [
      `${POD}spec: {containers: [{name: a, ports: [{containerPort: "80"}]}]}`,
      'spec.containers[0].ports[0].containerPort: must be a number, is "80"',
    ],
    [
      `${POD}spec: {containers: [{name: a, ports: [{containerPort: 80.5}]}]}`,
      'spec.containers[0].ports[0].containerPort: must be a whole number, is 80.5',
    ],
    [`${POD}spec: {containers: []}`, 'spec.containers: must not be empty'],
    [`${POD}spec: {containers: [{name: a}], hostNetwork: "true"}`, 'spec.hostNetwork: must be true or false, is "true"'],
    [`${POD}spec: {containers: [{name: a}]}\nstatus: {podIP: x}`, 'status.podIP: must be an IP address, is x'],
    [
      'apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {a: 1}}\nspec: {containers: [{name: a}]}',
      'metadata.labels.a: must be a string, is 1',
    ],
    [
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {a.b/c: "x y"}}',
      'metadata.labels["a.b/c"]: "x y" is not a label value',
    ],
    [`${SERVICE}spec: {ports: [{port: 70000}]}`, 'spec.ports[0].port: must be a port from 1 to 65535, is 70000'],
    [`${SERVICE}spec: {ports: [{port: 1}, {port: 2}]}`, 'spec.ports[0].name: must be set and unique'],
    [`${SERVICE}spec: {ports: [{port: 1, protocol: ICMP}]}`, 'spec.ports[0].protocol: must be one of TCP, UDP, SCTP, is ICMP'],
    [
      `${DEPLOYMENT}spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a}]}}}`,
      'spec.selector: does not match',
    ],
    [`${DEPLOYMENT}spec: {selector: {}}`, 'spec.template: is required'],
    [
      `${GATEWAY}spec: {gatewayClassName: x, listeners: [{name: mesh, port: 0, protocol: HBONE}]}`,
      'spec.listeners[0].port: must be 1 or more, is 0',
    ],
    [
      `${GATEWAY}spec: {gatewayClassName: x, listeners: [{name: mesh, port: 1, protocol: HBONE, allowed: {}}]}`,
      'spec.listeners[0].allowed: unknown field',
    ],
    [`${GATEWAY}spec: {listeners: [{name: mesh, port: 1, protocol: HBONE}]}`, 'spec.gatewayClassName: is required'],
    [`${CLASS}spec: {controllerName: x}`, 'spec.controllerName: must match'],
    [
      `${ROUTE}spec: {rules: [{matches: [{path: {type: Prefix}}]}]}`,
      'spec.rules[0].matches[0].path.type: must be one of Exact, PathPrefix, RegularExpression, is "Prefix"',
    ],
    [`${ROUTE}spec: {rules: [{backendRefs: [{name: a, wieght: 1}]}]}`, 'spec.rules[0].backendRefs[0].wieght: unknown field'],
    [
      `${ROUTE}spec: {rules: [{backendRefs: [{name: a, weight: "1"}]}]}`,
      'spec.rules[0].backendRefs[0].weight: must be of type integer, is "1"',
    ],
    [`${POLICY}spec: {action: BLOCK}`, 'spec.action: must be one of ALLOW, DENY, AUDIT, CUSTOM, is "BLOCK"'],
    [
      `${POLICY}spec: {rules: [{when: [{key: source.ip, values: [10.0.0.0/8], notValues: [junk]}]}]}`,
      'spec.rules[0].when[0].notValues[0]: must be an address or a block like 10.0.0.0/8, is junk',
    ],
    [
      `${POLICY}spec: {rules: [{when: [{key: source.ip, values: [10.0.0.0/abc]}]}]}`,
      'spec.rules[0].when[0].values[0]: must be an address or a block like 10.0.0.0/8, is 10.0.0.0/abc',
    ],
    [
      `${POLICY}spec: {rules: [{when: [{key: destination.port, values: [http]}]}]}`,
      'spec.rules[0].when[0].values[0]: must be a port number, is http',
    ],
    [`${POLICY}spec: {rules: [{when: [{key: source.principal}]}]}`, 'spec.rules[0].when[0]: must have values or notValues'],
    [`${POLICY}spec: {action: CUSTOM}`, 'spec.provider: is required for the action CUSTOM'],
    [
      `${POLICY}spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/40]}}]}]}`,
      'spec.rules[0].from[0].source.ipBlocks[0]: must be an address or a block',
    ],
    [
      `${POLICY}spec: {rules: [{to: [{operation: {ports: [http]}}]}]}`,
      'spec.rules[0].to[0].operation.ports[0]: must be a port number, is http',
    ],
    [`${POLICY}spec: {rules: [{when: [{key: source.ports}]}]}`, 'spec.rules[0].when[0].key: source.ports is not an attribute'],
    [
      `${POLICY}spec: {selector: {}, targetRefs: [{kind: Service, name: a}]}`,
      'spec.selector: must not be set together with targetRefs',
    ],
    [`${PEER}spec: {mtls: {mode: strict}}`, 'spec.mtls.mode: must be one of UNSET, DISABLE, PERMISSIVE, STRICT, is "strict"'],
    [`${PEER}spec: {portLevelMtls: {80: {mode: STRICT}}}`, 'spec.portLevelMtls: needs a selector'],
    [
      `${PEER}spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}`,
      'spec.portLevelMtls.http: must be a port',
    ],
    [`${POLICY}spec: {rules: [{from: [{source: {principals: []}}]}]}`, 'spec.rules[0].from[0].source: must say something'],
    [`${POLICY}spec: {rules: [{to: [{}]}]}`, 'spec.rules[0].to[0].operation: must say something'],
    [`${SERVICE}spec: {ports: [null]}`, 'spec.ports[0]: must not be null'],
    [`${POLICY}spec: {rules: [null]}`, 'spec.rules[0]: must be of type object, is null'],
    [`${ROUTE}spec: {parentRefs: [null]}`, 'spec.parentRefs[0]: must be of type object, is null'],
    [
      `${PEER}spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {8080: null}}`,
      'spec.portLevelMtls.8080: must be of type object, is null',
    ],
    [
      `${POD}spec: {containers: [{name: a}], initContainers: [{name: b, ports: [{containerPort: -1}]}]}`,
      'spec.initContainers[0].ports[0].containerPort: must be a port from 1 to 65535, is -1',
    ],
  ];
  for (const [yaml, expected] of bad) {
    const [first = 'accepted'] = faults(yaml);
    t.ok(first.startsWith(expected), `${expected} (got: ${first})`);
  }
});

t.test('an object with the deletion annotation needs nothing else', async (t) => {
  t.same(faults('apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {culvert.dev/deleted: "true"}}'), []);
});

t.test('the CRDs use only keywords that are checked', async (t) => {
  const text =
    'type description properties additionalProperties required items enum pattern minimum maximum minLength maxLength minItems maxItems';
  const more =
    'minProperties maxProperties x-kubernetes-preserve-unknown-fields x-kubernetes-list-type x-kubernetes-list-map-keys';
  const known = new Set(`${text} ${more}`.split(' '));
  const visit = (schema: Record<string, unknown>, path: string): void => {
    for (const key of Object.keys(schema)) t.ok(known.has(key), `${path}.${key}`);
    t.match(schema['type'], /^(object|array|string|integer|boolean)$/u, `${path}.type`);
    for (const [name, field] of Object.entries((schema['properties'] ?? {}) as Record<string, Record<string, unknown>>))
      visit(field, `${path}.${name}`);
    for (const key of ['items', 'additionalProperties'])
      if (schema[key] !== undefined) visit(schema[key] as Record<string, unknown>, `${path}[]`);
  };
  const folder = new URL('../../../manifests/crds/', import.meta.url);
  for (const file of readdirSync(folder)) {
    const crd = parse(readFileSync(new URL(file, folder), 'utf8')) as {
      spec: { versions: { schema: { openAPIV3Schema: Record<string, unknown> } }[] };
    };
    for (const { schema } of crd.spec.versions) visit(schema.openAPIV3Schema, file);
  }
});
