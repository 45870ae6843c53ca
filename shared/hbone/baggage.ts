// The `baggage` header: what the sender is, for the receiver's telemetry. It is a claim, never an identity (facts: ztunnel 5).
import { header, type HeaderList } from '../http2/headers.ts';

export interface Baggage {
  cluster?: string;
  namespace?: string;
  workloadType?: WorkloadType;
  workloadName?: string;
  /** Canonical service name. */
  service?: string;
  /** Canonical revision. */
  revision?: string;
  region?: string;
  zone?: string;
}

export const WORKLOAD_TYPES = ['deployment', 'cronjob', 'pod', 'job'] as const;
export type WorkloadType = (typeof WORKLOAD_TYPES)[number];

/** Of one value: names and labels of Kubernetes are shorter. Longer ones are cut, as they are kept in metrics and logs. */
const MAX_VALUE = 253;

/** The value of the header; '' when nothing is known, and then the header is left out. */
export function formatBaggage(baggage: Baggage): string {
  const fields: [key: string, value: string | undefined][] = [
    ['k8s.cluster.name', baggage.cluster],
    ['k8s.namespace.name', baggage.namespace],
    [`k8s.${baggage.workloadType ?? 'pod'}.name`, baggage.workloadName],
    ['service.name', baggage.service],
    ['service.version', baggage.revision],
    ['cloud.region', baggage.region],
    ['cloud.availability_zone', baggage.zone],
  ];
  return fields
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

/** Merges all `baggage` headers; unknown keys and properties are ignored, an empty value is as good as none, the last one wins. */
export function parseBaggage(headers: HeaderList): Baggage {
  const baggage: Baggage = {};
  if (header(headers, 'baggage') === undefined) return baggage;
  for (const [name, text] of headers) {
    if (name !== 'baggage') continue;
    for (const member of text.split(',')) {
      const [pair = ''] = member.split(';', 1);
      const at = pair.indexOf('=');
      const value = pair
        .slice(at + 1)
        .trim()
        .slice(0, MAX_VALUE);
      if (at > 0 && value !== '') assign(baggage, pair.slice(0, at).trim(), value);
    }
  }
  return baggage;
}

function assign(baggage: Baggage, key: string, value: string): void {
  switch (key) {
    case 'k8s.cluster.name':
      baggage.cluster = value;
      return;
    case 'k8s.namespace.name':
      baggage.namespace = value;
      return;
    case 'service.name':
      baggage.service = value;
      return;
    case 'service.version':
      baggage.revision = value;
      return;
    case 'cloud.region':
      baggage.region = value;
      return;
    case 'cloud.availability_zone':
      baggage.zone = value;
      return;
    default: {
      const type = WORKLOAD_TYPES.find((own) => key === `k8s.${own}.name`);
      if (!type) return;
      baggage.workloadType = type;
      baggage.workloadName = value;
    }
  }
}
