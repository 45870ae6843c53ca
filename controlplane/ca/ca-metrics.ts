// The CA's metrics, by the names that Istio's dashboards know (facts: control plane 6).
import type { Clock } from '#shared/clock.ts';
import { splitCertificates } from '#shared/identity/pem.ts';
import { X509Certificate } from 'node:crypto';
import type { Cell, Family, Metrics } from '#shared/telemetry/metrics.ts';
import type { Authority } from './root.ts';

export interface CaMetrics {
  requests: Cell;
  issued: Cell;
  authenticationFailures: Cell;
  csrFaults: Cell;
  identityRefusals: Cell;
  signFaults: Family<'error'>;
}

export function caMetrics(metrics: Metrics, authority: Authority, clock: Clock): CaMetrics {
  const counter = (name: string, help: string): Cell => metrics.counter(`citadel_server_${name}`, help).cell();
  const expiry = (name: string, help: string, end: () => number): void => {
    metrics.gauge(`citadel_server_${name}_expiry_timestamp`, `${help}, seconds since the epoch`, [], (family) => {
      family.cell().value = Math.round(end() / 1000);
    });
    metrics.gauge(`citadel_server_${name}_expiry_seconds`, `${help}, seconds from now`, [], (family) => {
      family.cell().value = Math.round((end() - clock.now()) / 1000);
    });
  };
  expiry('root_cert', 'End of the root certificate', () => firstEnd(authority.roots));
  expiry('cert_chain', 'End of the signing certificate', () => authority.certificate.validToDate.getTime());
  return {
    requests: counter('csr_count', 'Certificate requests'),
    issued: counter('success_cert_issuance_count', 'Certificates issued'),
    authenticationFailures: counter('authentication_failure_count', 'Requests whose caller could not be identified'),
    csrFaults: counter('csr_parsing_err_count', 'Requests with a faulty signing request'),
    identityRefusals: counter('id_extraction_err_count', 'Requests for an identity that the caller may not have'),
    signFaults: metrics.counter('citadel_server_csr_sign_err_count', 'Failures to sign', ['error']),
  };
}

function firstEnd(bundle: string): number {
  return Math.min(...splitCertificates(bundle).map((pem) => new X509Certificate(pem).validToDate.getTime()));
}
