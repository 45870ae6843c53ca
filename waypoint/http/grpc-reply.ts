// Answers of our own to gRPC: its clients read the status from a header (trailers-only, gRPC over HTTP/2), and take anything else for a
// broken server. The codes are Envoy's.
import type { Headers, HeaderPair } from './request.ts';
import type { LocalReply } from './reply.ts';

const UNKNOWN = 2;
const GRPC_STATUS: Record<number, number> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 };

/** A request whose client waits for a gRPC status. gRPC-Web is not among them. */
export function isGrpc(headers: Headers): boolean {
  const type = headers.get('content-type');
  return type !== undefined && (type === 'application/grpc' || type.startsWith('application/grpc+'));
}

/** Goes with status 200 and ends the response. */
export function trailersOnly({ status, body }: LocalReply): HeaderPair[] {
  const pairs: HeaderPair[] = [
    ['content-type', 'application/grpc'],
    ['grpc-status', String(GRPC_STATUS[status] ?? UNKNOWN)],
  ];
  if (body !== '') pairs.push(['grpc-message', percentEncoded(body)]);
  return pairs;
}

/** All but visible ASCII and space, and the percent sign itself. */
function percentEncoded(text: string): string {
  if (/^[ -$&-~]*$/u.test(text)) return text;
  let encoded = '';
  for (const octet of Buffer.from(text)) {
    const plain = octet >= 0x20 && octet <= 0x7e && octet !== 0x25;
    encoded += plain ? String.fromCharCode(octet) : `%${octet.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
