// What is known of a request or connection when it is over: the one object that the access log and the metrics are made from.
import type { Baggage } from '#shared/hbone/baggage.ts';
import type { ServiceName } from '../cluster/cluster.ts';
import { type ConnectionInfo, Headers, type RequestHead } from '../http/request.ts';

export interface TrafficRecord {
  /** Milliseconds since the epoch. */
  started: number;
  /** Milliseconds. */
  duration: number;
  readonly connection: ConnectionInfo;
  /** What the client's tunnel said of itself. */
  readonly client: Baggage;
  /** Undefined on TCP chains. */
  readonly head: RequestHead | undefined;
  /** The path as it came, when it was rewritten. */
  originalPath: string | undefined;
  status: number;
  flag: string;
  details: string;
  /** Body bytes from and to the client. */
  received: number;
  sent: number;
  cluster: string;
  service: ServiceName | undefined;
  /** `name;namespace;canonical name;revision;cluster` of the endpoint. */
  workload: string | undefined;
  /** SPIFFE ID of the endpoint, when it was reached through a tunnel. */
  upstreamIdentity: string | undefined;
  upstreamHost: string;
  /** Milliseconds from the end of the request to the response head; undefined where that came first, or not. */
  serviceTime: number | undefined;
  transportFailure: string;
  routeName: string;
  /** `grpc-status` of the response. */
  grpcStatus: string | undefined;
}

export function newRecord(
  connection: ConnectionInfo,
  client: Baggage,
  head: RequestHead | undefined,
  started: number,
): TrafficRecord {
  return {
    started,
    duration: 0,
    connection,
    client,
    head,
    originalPath: undefined,
    status: 0,
    flag: '-',
    details: '-',
    received: 0,
    sent: 0,
    cluster: '-',
    service: undefined,
    workload: undefined,
    upstreamIdentity: undefined,
    upstreamHost: '-',
    serviceTime: undefined,
    transportFailure: '-',
    routeName: '-',
    grpcStatus: undefined,
  };
}

/** Response flag and details of a fault in HTTP itself, as Envoy has them. */
export const CODEC_ERROR = { flag: 'DPE', details: 'http1.codec_error' } as const;

/** Of what came as HTTP/1.1 and could not be understood. */
export function refusedRecord(connection: ConnectionInfo, client: Baggage, status: number, at: number): TrafficRecord {
  const head: RequestHead = { method: '', path: '', authority: '', scheme: 'http', protocol: 'HTTP/1.1', headers: new Headers() };
  return { ...newRecord(connection, client, head, at), status, ...CODEC_ERROR };
}
