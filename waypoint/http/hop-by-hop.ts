// Headers that concern one connection and must not be passed on (RFC 9110 7.6.1).
import { optionsOf } from '#shared/http1/head.ts';
import type { HeaderPair, Headers } from './request.ts';

const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'http2-settings']);

/** `te: trailers` stays: gRPC needs it. */
export function stripHopByHop(headers: Headers): void {
  const named = headers.get('connection');
  if (named === undefined || named === 'keep-alive' || named === 'close') return headers.drop(isHopByHop);
  const names = optionsOf(named);
  headers.drop((name, value) => isHopByHop(name, value) || names.includes(name));
}

/** Trailers that may be passed on; HTTP/2 takes none of the others. */
export function endToEnd(trailers: readonly HeaderPair[]): readonly HeaderPair[] {
  return trailers.filter(([name, value]) => !isHopByHop(name, value));
}

function isHopByHop(name: string, value: string): boolean {
  return HOP_BY_HOP.has(name) || (name === 'te' && value.toLowerCase() !== 'trailers');
}

/** A request for another protocol on the connection. */
export function upgradeOf(headers: Headers): string | undefined {
  const upgrade = headers.get('upgrade');
  if (upgrade === undefined) return undefined;
  return optionsOf(headers.get('connection') ?? '').includes('upgrade') ? upgrade.toLowerCase() : undefined;
}
