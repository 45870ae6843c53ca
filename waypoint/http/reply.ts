// Answers that the waypoint gives itself, in the words that Envoy uses: status, body, response flag and the details of the log line.
import type { MeshError } from '#shared/errors.ts';

export interface LocalReply {
  readonly status: number;
  readonly body: string;
  /** `%RESPONSE_FLAGS%` */
  readonly flag: string;
  /** `%RESPONSE_CODE_DETAILS%` */
  readonly details: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
}

const RESET = 'upstream connect error or disconnect/reset before headers. reset reason: ';

export const reply = {
  denied: (policy: string): LocalReply => ({
    status: 403,
    body: 'RBAC: access denied',
    flag: '-',
    details: `rbac_access_denied_matched_policy[${policy}]`,
  }),
  badRequest: (): LocalReply => ({ status: 400, body: 'Bad Request', flag: 'DPE', details: 'http1.codec_error' }),
  badPath: (): LocalReply => ({ status: 400, body: '', flag: '-', details: 'path_normalization_failed' }),
  noRoute: (): LocalReply => ({ status: 404, body: '', flag: 'NR', details: 'route_not_found' }),
  noCluster: (status: number): LocalReply => ({ status, body: '', flag: 'NC', details: 'cluster_not_found' }),
  noEndpoint: (): LocalReply => ({ status: 503, body: 'no healthy upstream', flag: 'UH', details: 'no_healthy_upstream' }),
  connectFailed: (error: MeshError): LocalReply => ({
    status: 503,
    body: `${RESET}remote connection failure, transport failure reason: ${error.message}`,
    flag: 'UF',
    details: 'upstream_reset_before_response_started{remote_connection_failure}',
  }),
  connectTimeout: (): LocalReply => ({
    status: 503,
    body: `${RESET}connection timeout`,
    flag: 'UF',
    details: 'upstream_reset_before_response_started{connection_timeout}',
  }),
  upstreamClosed: (): LocalReply => ({
    status: 503,
    body: `${RESET}connection termination`,
    flag: 'UC',
    details: 'upstream_reset_before_response_started{connection_termination}',
  }),
  upstreamReset: (): LocalReply => ({
    status: 503,
    body: `${RESET}remote reset`,
    flag: 'UR',
    details: 'upstream_reset_before_response_started{remote_reset}',
  }),
  upstreamProtocol: (): LocalReply => ({
    status: 502,
    body: `${RESET}protocol error`,
    flag: 'UPE',
    details: 'upstream_reset_before_response_started{protocol_error}',
  }),
  timeout: (): LocalReply => ({ status: 504, body: 'upstream request timeout', flag: 'UT', details: 'response_timeout' }),
  upgradeRefused: (): LocalReply => ({ status: 403, body: '', flag: '-', details: 'upgrade_failed' }),
  direct: (status: number, body: string): LocalReply => ({ status, body, flag: '-', details: 'direct_response' }),
  redirect: (status: number, location: string): LocalReply => ({
    status,
    body: '',
    flag: '-',
    details: 'direct_response',
    headers: [['location', location]],
  }),
} as const;

/** The answer for a connection that could not be had. */
export function connectReply(error: MeshError): LocalReply {
  return error.code === 'connect_timeout' || error.code === 'hbone_timeout' ? reply.connectTimeout() : reply.connectFailed(error);
}
