// The access log line, in the default text format that Istio gives Envoy (facts: waypoint A6).
import { formatHostPort } from '#shared/address.ts';
import type { TrafficRecord } from './record.ts';

/** Control characters, quotes, backslashes, and what is no ASCII. */
const UNSAFE = /[^\u0020-\u0021\u0023-\u005b\u005d-\u007e]/u;

export function formatAccessLog(record: TrafficRecord): string {
  const { head, connection } = record;
  const header = (name: string): string => clean(head?.headers.get(name));
  const request = head ? `${clean(head.method)} ${clean(record.originalPath ?? head.path)} ${head.protocol}` : '- - -';
  const fields = [
    `[${new Date(record.started).toISOString()}]`,
    `"${request}"`,
    record.status,
    record.flag,
    record.details,
    '-',
    `"${clean(record.transportFailure)}"`,
    record.received,
    record.sent,
    Math.round(record.duration),
    record.serviceTime === undefined ? '-' : Math.round(record.serviceTime),
    `"${header('x-forwarded-for')}"`,
    `"${header('user-agent')}"`,
    `"${header('x-request-id')}"`,
    `"${clean(head?.authority)}"`,
    `"${record.upstreamHost}"`,
    record.cluster,
    '-',
    formatHostPort(connection.destination),
    formatHostPort(connection.remote),
    '-',
    record.routeName,
  ];
  return `${fields.join(' ')}\n`;
}

/** A client must not be able to write lines or fields of its own into the log. */
function clean(text: string | undefined): string {
  if (text === undefined || text === '') return '-';
  if (!UNSAFE.test(text)) return text;
  return text.replaceAll(
    /[^\u0020-\u0021\u0023-\u005b\u005d-\u007e]/gu,
    (character) => `\\x${(character.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`,
  );
}
