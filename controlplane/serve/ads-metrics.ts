// What the xDS server counts, by the names that dashboards of Istio know (facts: control plane 6).
import type { Histogram } from 'prom-client';
import type { Family, Metrics } from '#shared/telemetry/metrics.ts';

export interface AdsMetrics {
  readonly pushes: Family<'type'>;
  readonly rejects: Family<'type'>;
  readonly staleNonces: Family<'type'>;
  readonly internalErrors: Family;
  readonly refusedStreams: Family;
  readonly pushTime: Histogram<'type'>;
  readonly size: Histogram<'type'>;
  readonly convergence: Histogram;
}

const SECONDS = [0.01, 0.1, 0.5, 1, 3, 5, 10, 20, 30];

/** `streams` says how many proxies are connected. */
export function adsMetrics(metrics: Metrics, streams: () => number): AdsMetrics {
  metrics.gauge('pilot_xds', 'Proxies connected', [], (family) => (family.cell().value = streams()));
  return {
    pushes: metrics.counter('pilot_xds_pushes', 'Responses sent', ['type']),
    rejects: metrics.counter('pilot_total_xds_rejects', 'Responses refused by a proxy', ['type']),
    staleNonces: metrics.counter('pilot_xds_expired_nonce', 'Answers to a response that was not the latest', ['type']),
    internalErrors: metrics.counter('pilot_total_xds_internal_errors', 'Faults of the server itself'),
    refusedStreams: metrics.counter('culvert_xds_refused_streams_total', 'Streams refused because there are too many'),
    pushTime: metrics.histogram('pilot_xds_push_time', 'Time to make and send one response, seconds', ['type'], SECONDS),
    size: metrics.histogram('pilot_xds_config_size_bytes', 'Size of one response', ['type'], [1, 10_000, 1e6, 4e6, 1e7, 4e7]),
    convergence: metrics.histogram(
      'pilot_proxy_convergence_time',
      'From a change to its acknowledgement by a proxy, seconds',
      [],
      SECONDS,
    ),
  };
}
