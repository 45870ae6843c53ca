// Headers that concern one connection and must not be passed on (RFC 9110 7.6.1).
import { optionsOf } from '#shared/http1/head.ts';
import type { HeaderPair, Headers } from './request.ts';

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'te',
]);

/** Said by proxies for those behind them: with Connection a client could take it away. Pseudo headers are no fields at all. */
const NEVER_NAMED = /^(?::.*|host|x-forwarded-(?:for|host|proto))$/u;

/**
 * Takes out of a request what its Connection field names, before policies look and before we add fields of our own. What is left of
 * Connection is `upgrade`. False: it names what must stay, and the request is to be refused, as Envoy does.
 */
export function dropNamed(headers: Headers): boolean {
  const connection = headers.get('connection');
  if (connection === undefined || isPlain(connection)) return true;
  const names = optionsOf(connection);
  if (names.some((name) => NEVER_NAMED.test(name))) return false;
  headers.drop((name) => name === 'connection' || (names.includes(name) && !HOP_BY_HOP.has(name)));
  if (names.includes('upgrade')) headers.append('connection', 'upgrade');
  return true;
}

/** `te: trailers` stays: gRPC needs it. */
export function stripHopByHop(headers: Headers): void {
  const connection = headers.get('connection');
  const te = headers.get('te');
  const names = connection === undefined || isPlain(connection) ? [] : optionsOf(connection);
  headers.drop((name) => HOP_BY_HOP.has(name) || names.includes(name));
  // In lower case, and nothing beside it: HTTP/2 allows no more (RFC 9113, section 8.2.2).
  if (te !== undefined && optionsOf(te).includes('trailers')) headers.append('te', 'trailers');
}

/** Trailers that may be passed on; HTTP/2 takes none of the others. */
export function endToEnd(trailers: readonly HeaderPair[]): readonly HeaderPair[] {
  return trailers.filter(([name]) => !HOP_BY_HOP.has(name));
}

/** Names no field. */
function isPlain(connection: string): boolean {
  return connection === 'keep-alive' || connection === 'close';
}

/** A request for another protocol on the connection. */
export function upgradeOf(headers: Headers): string | undefined {
  const upgrade = headers.get('upgrade');
  if (upgrade === undefined) return undefined;
  return optionsOf(headers.get('connection') ?? '').includes('upgrade') ? upgrade.toLowerCase() : undefined;
}
