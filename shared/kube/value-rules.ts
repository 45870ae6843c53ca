// What schemas cannot say, or the models of the Kubernetes client do not: required fields, ranges, addresses, and fields that
// must agree. One table per kind; `[]` in a field's path stands for every item of a list, `{}` for every value of a map.
import { isIP } from 'node:net';
import type { FieldFault, FieldPath } from './field-path.ts';
import { matchesSelector } from './selectors.ts';
import type { LabelSelector } from './selectors.ts';

/** The fault of a value, if it has one. */
type Check = (value: unknown) => string | undefined;

interface Rule {
  readonly field: string;
  /** The field must be there wherever its parent is. */
  readonly required?: boolean;
  readonly check?: Check;
}

type Document = Record<string, unknown>;
type CrossRule = (object: Document) => FieldFault | undefined;

const PORT: Check = (value) => (isPort(value) ? undefined : `must be a port from 1 to 65535, is ${String(value)}`);
const PORT_TEXT: Check = (value) =>
  /^\d+$/u.test(String(value)) ? PORT(Number(value)) : `must be a port number, is ${String(value)}`;
const PORT_OR_NAME: Check = (value) =>
  isPort(value) || (typeof value === 'string' && /^(?=.*[a-z])[a-z0-9-]{1,15}$/u.test(value))
    ? undefined
    : `must be a port or the name of one, is ${String(value)}`;
const ADDRESS: Check = (value) => (isIP(String(value)) > 0 ? undefined : `must be an IP address, is ${String(value)}`);
const CLUSTER_IP: Check = (value) => (value === 'None' || value === '' ? undefined : ADDRESS(value));
const CIDR: Check = (value) =>
  isCidr(String(value)) ? undefined : `must be an address or a block like 10.0.0.0/8, is ${String(value)}`;
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    values.includes(String(value)) ? undefined : `must be one of ${values.join(', ')}, is ${String(value)}`;
const PROTOCOL = oneOf('TCP', 'UDP', 'SCTP');
const LABEL: Check = (value) =>
  /^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$/u.test(String(value)) ? undefined : `${JSON.stringify(value)} is not a label value`;
const NOT_EMPTY: Check = (value) => (Array.isArray(value) && value.length === 0 ? 'must not be empty' : undefined);
const SERVICE_ACCOUNT: Check = (value) =>
  /^([a-z0-9-]+\/)?[a-z0-9.-]+$/u.test(String(value)) ? undefined : `must be NAMESPACE/NAME or NAME, is ${String(value)}`;
const CONDITION_KEY: Check = (value) =>
  /^((source|remote)\.ip|source\.(namespace|principal|serviceAccount|trustDomain)|destination\.(ip|port)|connection\.sni|request\.headers\[.+\]|request\.auth\.(principal|audiences|presenter|claims\[.+\])|experimental\.envoy\.filters\..+)$/u.test(
    String(value),
  )
    ? undefined
    : `${String(value)} is not an attribute that a condition can ask for`;

/** What the values of a condition must be; those of other attributes may be any text. */
const CONDITION_VALUES: Record<string, Check> = {
  'source.ip': CIDR,
  'remote.ip': CIDR,
  'destination.ip': CIDR,
  'destination.port': PORT_TEXT,
  'source.serviceAccount': SERVICE_ACCOUNT,
};

const RULES: Record<string, readonly Rule[]> = {
  Pod: [
    ...podRules('spec'),
    { field: 'spec', required: true },
    { field: 'status.podIP', check: ADDRESS },
    { field: 'status.podIPs[].ip', required: true, check: ADDRESS },
    { field: 'status.phase', check: oneOf('Pending', 'Running', 'Succeeded', 'Failed', 'Unknown') },
  ],
  Deployment: [
    { field: 'spec', required: true },
    { field: 'spec.selector', required: true },
    { field: 'spec.template', required: true },
    { field: 'spec.template.spec', required: true },
    { field: 'spec.template.metadata.labels{}', check: LABEL },
    {
      field: 'spec.replicas',
      check: (value) =>
        Number(value) >= 0 && Number(value) <= 10_000 ? undefined : `must be from 0 to 10000, is ${String(value)}`,
    },
    ...podRules('spec.template.spec'),
  ],
  Service: [
    { field: 'spec', required: true },
    { field: 'spec.type', check: oneOf('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName') },
    { field: 'spec.clusterIP', check: CLUSTER_IP },
    { field: 'spec.clusterIPs[]', check: CLUSTER_IP },
    { field: 'spec.ports[].port', required: true, check: PORT },
    { field: 'spec.ports[].targetPort', check: PORT_OR_NAME },
    { field: 'spec.ports[].protocol', check: PROTOCOL },
    { field: 'spec.internalTrafficPolicy', check: oneOf('Cluster', 'Local') },
    { field: 'spec.trafficDistribution', check: oneOf('PreferClose', 'PreferSameZone', 'PreferSameNode') },
  ],
  Node: [
    { field: 'spec.podCIDR', check: CIDR },
    { field: 'spec.podCIDRs[]', check: CIDR },
  ],
  AuthorizationPolicy: [
    ...['ipBlocks', 'notIpBlocks', 'remoteIpBlocks', 'notRemoteIpBlocks'].map((name) => ({
      field: `spec.rules[].from[].source.${name}[]`,
      check: CIDR,
    })),
    ...['serviceAccounts', 'notServiceAccounts'].map((name) => ({
      field: `spec.rules[].from[].source.${name}[]`,
      check: SERVICE_ACCOUNT,
    })),
    ...['ports', 'notPorts'].map((name) => ({ field: `spec.rules[].to[].operation.${name}[]`, check: PORT_TEXT })),
    { field: 'spec.rules[].when[].key', required: true, check: CONDITION_KEY },
    { field: 'spec.rules[].from', check: NOT_EMPTY },
    { field: 'spec.rules[].to', check: NOT_EMPTY },
  ],
};

const CROSS_RULES: Record<string, readonly CrossRule[]> = {
  Deployment: [
    (object) => {
      const labels = at(object, 'spec', 'template', 'metadata', 'labels') as Record<string, string> | undefined;
      if (matchesSelector(at(object, 'spec', 'selector') as LabelSelector, labels)) return undefined;
      return { path: ['spec', 'selector'], reason: 'does not match the labels of spec.template' };
    },
  ],
  Service: [
    (object) => {
      const ports = (at(object, 'spec', 'ports') ?? []) as { name?: string }[];
      const bad =
        ports.length > 1
          ? ports.findIndex(({ name }) => name === undefined || ports.filter((port) => port.name === name).length > 1)
          : -1;
      return bad < 0
        ? undefined
        : { path: ['spec', 'ports', bad, 'name'], reason: 'must be set and unique where there are several ports' };
    },
  ],
  AuthorizationPolicy: [
    (object) =>
      at(object, 'spec', 'selector') !== undefined &&
      (at(object, 'spec', 'targetRef') ?? at(object, 'spec', 'targetRefs')) !== undefined
        ? { path: ['spec', 'selector'], reason: 'must not be set together with targetRefs' }
        : undefined,
    (object) =>
      at(object, 'spec', 'action') === 'CUSTOM' && at(object, 'spec', 'provider') === undefined
        ? { path: ['spec', 'provider'], reason: 'is required for the action CUSTOM' }
        : undefined,
    emptyMatchFault,
    conditionFault,
  ],
  PeerAuthentication: [
    (object) => {
      const ports = Object.keys(at(object, 'spec', 'portLevelMtls') ?? {});
      if (ports.length === 0) return undefined;
      if (at(object, 'spec', 'selector', 'matchLabels') === undefined)
        return { path: ['spec', 'portLevelMtls'], reason: 'needs a selector: ports belong to workloads' };
      const bad = ports.find((port) => PORT_TEXT(port) !== undefined);
      return bad === undefined ? undefined : { path: ['spec', 'portLevelMtls', bad], reason: 'must be a port from 1 to 65535' };
    },
  ],
};

/** Faults of the values of an object whose shape is right already. */
export function valueFaults(kind: string, object: Document): FieldFault[] {
  const rules = [...(RULES[kind] ?? []), { field: 'metadata.labels{}', check: LABEL }];
  const single = rules.flatMap((rule) => applyRule(rule, object));
  if (single.length > 0) return single;
  return (CROSS_RULES[kind] ?? []).map((rule) => rule(object)).filter((fault) => fault !== undefined);
}

function podRules(spec: string): Rule[] {
  return [
    { field: `${spec}.containers`, required: true, check: NOT_EMPTY },
    { field: `${spec}.containers[].name`, required: true },
    { field: `${spec}.containers[].ports[].containerPort`, required: true, check: PORT },
    { field: `${spec}.containers[].ports[].protocol`, check: PROTOCOL },
    { field: `${spec}.initContainers[].ports[].containerPort`, check: PORT },
    { field: `${spec}.restartPolicy`, check: oneOf('Always', 'OnFailure', 'Never') },
  ];
}

interface Condition {
  readonly key: string;
  readonly values?: readonly string[] | null;
  readonly notValues?: readonly string[] | null;
}

interface Ends {
  readonly from?: readonly ({ readonly source?: object | null } | null)[] | null;
  readonly to?: readonly ({ readonly operation?: object | null } | null)[] | null;
}

/** A source or an operation that says nothing could be meant as anybody or nobody. */
function emptyMatchFault(object: Document): FieldFault | undefined {
  const rules = (at(object, 'spec', 'rules') ?? []) as readonly (Ends | null)[];
  for (const [r, rule] of rules.entries()) {
    const sources = (rule?.from ?? []).map((each, f) => ({ value: each?.source, path: ['from', f, 'source'] }));
    const operations = (rule?.to ?? []).map((each, o) => ({ value: each?.operation, path: ['to', o, 'operation'] }));
    const empty = [...sources, ...operations].find(({ value }) => Object.values(value ?? {}).every(isNothing));
    if (empty) return { path: ['spec', 'rules', r, ...empty.path], reason: 'must say something' };
  }
  return undefined;
}

function isNothing(value: unknown): boolean {
  return !Array.isArray(value) || value.length === 0;
}

/** A condition that asks for nothing, or for what no connection can have, would lift its policy without a word. */
function conditionFault(object: Document): FieldFault | undefined {
  // YAML may hold null wherever the schema has an object or a list.
  const rules = (at(object, 'spec', 'rules') ?? []) as readonly ({ when?: readonly (Condition | null)[] | null } | null)[];
  for (const [r, rule] of rules.entries()) {
    for (const [w, condition] of (rule?.when ?? []).entries()) {
      const path: FieldPath = ['spec', 'rules', r, 'when', w];
      const key = condition?.key ?? '';
      const values = condition?.values ?? [];
      const notValues = condition?.notValues ?? [];
      if (values.length + notValues.length === 0) return { path, reason: 'must have values or notValues' };
      for (const [field, list] of Object.entries({ values, notValues })) {
        const reasons = list.map((value) => CONDITION_VALUES[key]?.(value));
        const bad = reasons.findIndex((reason) => reason !== undefined);
        if (bad >= 0) return { path: [...path, field, bad], reason: reasons[bad] ?? '' };
      }
    }
  }
  return undefined;
}

function applyRule(rule: Rule, object: Document): FieldFault[] {
  const faults: FieldFault[] = [];
  const steps = rule.field.split('.').flatMap((step) => {
    const [, name = '', many] = /^(.*?)(\[\]|\{\})?$/u.exec(step) ?? [];
    return many === undefined ? [name] : [name, '*'];
  });
  const visit = (value: unknown, depth: number, path: FieldPath): void => {
    const step = steps[depth];
    if (step === undefined) {
      if (value === undefined || value === null) {
        if (rule.required) faults.push({ path, reason: 'is required' });
        return;
      }
      const reason = rule.check?.(value);
      if (reason !== undefined) faults.push({ path, reason });
    } else if (step === '*') {
      if (Array.isArray(value)) for (const [index, item] of value.entries()) visit(item, depth + 1, [...path, index]);
      else if (typeof value === 'object' && value !== null)
        for (const [key, item] of Object.entries(value)) visit(item, depth + 1, [...path, key]);
    } else if (typeof value === 'object' && value !== null) visit((value as Document)[step], depth + 1, [...path, step]);
  };
  visit(object, 0, []);
  return faults;
}

function at(object: unknown, ...path: string[]): unknown {
  let here = object;
  for (const key of path) here = (here as Document | null | undefined)?.[key];
  return here;
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535;
}

function isCidr(text: string): boolean {
  const [address = '', length, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return length === undefined || (/^\d{1,3}$/u.test(length) && Number(length) <= (family === 4 ? 32 : 128));
}
