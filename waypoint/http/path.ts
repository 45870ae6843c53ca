// Path normalisation (RFC 3986 6.2.2), as Envoy does it with normalize_path: policy and routes must see the path that a backend will
// act on, or `/public/../admin` would pass for `/public`.
import { queryStart } from './request.ts';

const UNRESERVED = /[A-Za-z0-9\-._~]/u;

/** Undefined when the path is malformed. The query is left alone. */
export function normalizePath(path: string): string | undefined {
  const end = queryStart(path);
  const plain = end === -1 ? path : path.slice(0, end);
  if (!plain.startsWith('/')) return plain === '*' ? path : undefined;
  if (isNormal(plain)) return path;
  const decoded = decodeUnreserved(plain.replaceAll('\\', '/'));
  if (decoded === undefined) return undefined;
  const rest = end === -1 ? '' : path.slice(end);
  return removeDots(decoded) + rest;
}

function isNormal(plain: string): boolean {
  return !plain.includes('%') && !plain.includes('/.') && !plain.includes('\\');
}

/** `%41` is `A`; other escapes stay as they came: routes and policies are written for Envoy, which leaves their case alone. */
function decodeUnreserved(plain: string): string | undefined {
  if (/%(?![0-9A-Fa-f]{2})/u.test(plain) || /%00/u.test(plain)) return undefined;
  return plain.replaceAll(/%[0-9A-Fa-f]{2}/gu, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    return UNRESERVED.test(character) ? character : escape;
  });
}

function removeDots(path: string): string {
  const segments = path.slice(1).split('/');
  const kept: string[] = [];
  for (const [index, segment] of segments.entries()) {
    const isLast = index === segments.length - 1;
    const name = withoutParameters(segment);
    if (name === '..') kept.pop();
    else if (name !== '.') kept.push(segment);
    if (isLast && (name === '..' || name === '.')) kept.push('');
  }
  return `/${kept.join('/')}`;
}

/** Servers that know parameters of a segment take `..;x` for `..` (RFC 3986, section 3.3). */
function withoutParameters(segment: string): string {
  const end = segment.indexOf(';');
  return end === -1 ? segment : segment.slice(0, end);
}
