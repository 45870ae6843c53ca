// The `forwarded` header (RFC 7239) of a tunnel: whose connection it carries, and the service name that was asked for.
import { formatHostPort, type HostPort } from '../address.ts';

/** `for="1.2.3.4:5678"`, and `;host=NAME` when the client addressed a service. */
export function formatForwarded(source: HostPort, host?: string): string {
  const who = `for="${formatHostPort(source)}"`;
  return host === undefined || host === '' ? who : `${who};host=${host}`;
}

/** The first `host=`, lower case, without quotes; undefined when there is none or the text is not ASCII. */
export function forwardedHost(text: string): string | undefined {
  return parameter(text, 'host')?.toLowerCase();
}

/** The first `for=` without quotes: an address and port in what a ztunnel sends. */
export function forwardedFor(text: string): string | undefined {
  return parameter(text, 'for');
}

function parameter(text: string, name: string): string | undefined {
  if (!/^[\t\u0020-\u007e]*$/u.test(text)) return undefined;
  for (const part of text.split(/[;,]/u)) {
    const at = part.indexOf('=');
    if (at < 0 || part.slice(0, at).trim().toLowerCase() !== name) continue;
    const value = part.slice(at + 1).trim();
    const unquoted = value.startsWith('"') && value.endsWith('"') && value.length > 1 ? value.slice(1, -1) : value;
    return unquoted === '' ? undefined : unquoted;
  }
  return undefined;
}
