// A condition of a policy in two stages: what the connection alone decides, which is asked once for each connection, and what is left to
// ask of each request. Of a hundred rules that name callers, a request then meets the few that name this one.
import type { ConnectionInfo, RequestHead } from '../http/request.ts';

/** What is left to ask of a request. `head` is missing on TCP chains, where header and path tests match nothing. */
export type HeadTest = (head: RequestHead | undefined) => boolean;

/** True or false: the connection decides. */
export type Condition = (connection: ConnectionInfo) => boolean | HeadTest;

export function ofHead(test: (head: RequestHead) => boolean): Condition {
  const left: HeadTest = (head) => head !== undefined && test(head);
  return () => left;
}

export function allOf(parts: readonly Condition[]): Condition {
  return (connection) => combined(parts, connection, false, (left) => (head) => left.every((test) => test(head)));
}

export function anyOf(parts: readonly Condition[]): Condition {
  return (connection) => combined(parts, connection, true, (left) => (head) => left.some((test) => test(head)));
}

export function not(part: Condition): Condition {
  return (connection) => {
    const known = part(connection);
    return typeof known === 'boolean' ? !known : (head) => !known(head);
  };
}

/** `decides`: the value of one part that is the value of all. */
function combined(
  parts: readonly Condition[],
  connection: ConnectionInfo,
  decides: boolean,
  join: (left: readonly HeadTest[]) => HeadTest,
): boolean | HeadTest {
  let only: HeadTest | undefined;
  let several: HeadTest[] | undefined;
  for (const part of parts) {
    const known = part(connection);
    if (known === decides) return decides;
    if (typeof known === 'boolean') continue;
    if (only) (several ??= [only]).push(known);
    only ??= known;
  }
  return several ? join(several) : (only ?? !decides);
}
