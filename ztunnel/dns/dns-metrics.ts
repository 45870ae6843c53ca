// What the DNS proxy counts: Istio's names and labels (facts: ztunnel 12).
import type { Metrics } from '#shared/telemetry/metrics.ts';
import type { Workload } from '../state/model.ts';
import type { Transport } from './exchange.ts';

const LABELS = ['request_query_type', 'request_protocol', 'source_canonical_service', 'source_canonical_revision'];
const BUCKETS = [0.0005, 0.001, 0.01, 0.1, 1, 5];

/** A client may ask for any of 65,536 types; those without a name here share one label. */
const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [2, 'NS'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [12, 'PTR'],
  [15, 'MX'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [35, 'NAPTR'],
  [43, 'DS'],
  [46, 'RRSIG'],
  [48, 'DNSKEY'],
  [64, 'SVCB'],
  [65, 'HTTPS'],
  [255, 'ANY'],
  [257, 'CAA'],
]);

export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? 'unknown';
}

export class DnsMetrics {
  readonly requests;
  readonly forwarded;
  readonly failures;
  readonly duration;

  constructor(metrics: Metrics) {
    this.requests = metrics.counter('istio_dns_requests_total', 'DNS requests of pods', LABELS);
    this.forwarded = metrics.counter('istio_dns_upstream_requests_total', 'DNS requests that went to name servers', LABELS);
    this.failures = metrics.counter('istio_dns_upstream_failures_total', 'DNS requests that no name server answered', LABELS);
    this.duration = metrics.distribution(
      'istio_dns_upstream_request_duration_seconds',
      'Time until name servers answered',
      LABELS,
      BUCKETS,
    );
  }
}

/** Values in the order of the labels. */
export function labelsOf(type: number | undefined, transport: Transport, source: Workload | undefined): string[] {
  return [
    type === undefined ? 'unknown' : typeName(type).toLowerCase(),
    transport,
    source?.canonicalName || 'unknown',
    source?.canonicalRevision || 'unknown',
  ];
}
