// Request headers that are not the client's to set. Whoever reads them believes a proxy: an application the identity of its caller, the
// next Envoy how often and how long to try. They go before policies and routes look, as in an Envoy with default settings.
import type { Headers } from './request.ts';

const FORGED = new Set([
  // Who calls, by the proxies before (Envoy's forward_client_cert_details: SANITIZE).
  'x-forwarded-client-cert',
  // What Envoy takes from internal clients alone, or sets itself.
  'x-envoy-expected-rq-timeout-ms',
  'x-envoy-force-trace',
  'x-envoy-hedge-on-per-try-timeout',
  'x-envoy-internal',
  'x-envoy-ip-tags',
  'x-envoy-max-retries',
  'x-envoy-original-url',
  'x-envoy-retriable-header-names',
  'x-envoy-retriable-status-codes',
  'x-envoy-retry-grpc-on',
  'x-envoy-retry-on',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-upstream-rq-per-try-timeout-ms',
  'x-envoy-upstream-rq-timeout-alt-response',
  'x-envoy-upstream-rq-timeout-ms',
  'x-envoy-upstream-stream-duration-ms',
]);

const isForged = (name: string): boolean => name.startsWith('x-') && FORGED.has(name);

export function dropForged(headers: Headers): void {
  headers.drop(isForged);
}
