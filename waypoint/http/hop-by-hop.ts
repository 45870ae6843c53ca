// Headers that concern one connection and must not be passed on (RFC 9110 7.6.1).
import type { Headers } from './request.ts';

const HOP_BY_HOP = ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'http2-settings'];

/** `te: trailers` stays: gRPC needs it. */
export function stripHopByHop(headers: Headers): void {
  const named = headers.get('connection');
  if (named !== undefined) for (const name of named.split(',')) headers.remove(name.trim().toLowerCase());
  for (const name of HOP_BY_HOP) headers.remove(name);
  const te = headers.get('te');
  if (te !== undefined && te.toLowerCase() !== 'trailers') headers.remove('te');
}

/** A request for another protocol on the connection. */
export function upgradeOf(headers: Headers): string | undefined {
  const tokens = headers.get('connection')?.toLowerCase().split(',');
  if (!tokens?.some((token) => token.trim() === 'upgrade')) return undefined;
  return headers.get('upgrade')?.toLowerCase();
}
