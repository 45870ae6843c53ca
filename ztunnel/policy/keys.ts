// Where the rules of many policies are found by what a connection is: tables by principal, service account, namespace, address block and
// port. A table that a rule is in by one of its keys is asked with the connection's own keys, so that a look-up costs as many steps as
// there are lengths of prefixes and blocks, whatever the number of rules.
import type { Cidr } from '../state/cidr.ts';
import type { Match, StringMatch } from '../state/model.ts';
import type { PolicyContext } from './match.ts';

type Key = string | number;

/** One place of a table, as a rule takes it. `length`: of the prefix, suffix or block; 0 in tables of whole values. */
export interface Slot<T> {
  readonly table: Table<T>;
  readonly length: number;
  readonly key: Key;
}

/** Entries by key, for each length of keys. */
export class Table<T> {
  readonly #byLength = new Map<number, Map<Key, T[]>>();

  add(length: number, key: Key, entry: T): void {
    let byKey = this.#byLength.get(length);
    if (!byKey) this.#byLength.set(length, (byKey = new Map<Key, T[]>()));
    const found = byKey.get(key);
    if (!found) byKey.set(key, [entry]);
    // A rule that names a key twice is there once.
    else if (found.at(-1) !== entry) found.push(entry);
  }

  remove(length: number, key: Key, entry: T): void {
    const byKey = this.#byLength.get(length);
    const found = byKey?.get(key);
    if (!byKey || !found) return;
    take(found, entry);
    if (found.length === 0) byKey.delete(key);
    if (byKey.size === 0) this.#byLength.delete(length);
  }

  count(length: number, key: Key): number {
    return this.#byLength.get(length)?.get(key)?.length ?? 0;
  }

  /** The entries of each length, by `keyOf` the length; undefined: no key of that length. */
  find(keyOf: (length: number) => Key | undefined, test: (entry: T) => boolean): T | undefined {
    for (const [length, byKey] of this.#byLength) {
      const key = keyOf(length);
      const found = key === undefined ? undefined : byKey.get(key)?.find(test);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/** Removes without keeping the order. */
export function take<T>(entries: T[], entry: T): void {
  const at = entries.indexOf(entry);
  const last = entries.pop();
  if (at === -1 && last !== undefined) entries.push(last);
  else if (at !== -1 && at < entries.length && last !== undefined) entries[at] = last;
}

/** All tables of one kind of field. */
interface Field<T> {
  /** Every place in which a connection that the match hits finds it; undefined when the field does not say. */
  slots(match: Match): Slot<T>[] | undefined;
  find(context: PolicyContext, test: (entry: T) => boolean): T | undefined;
}

/** The fields that narrow a match down, most telling first. */
export function fields<T>(): readonly Field<T>[] {
  return [
    textField(
      (match) => match.principals,
      (context) => context.principal,
      (context) => context.alsoKnownAs,
    ),
    accountField(),
    blockField(
      (match) => match.sourceIps,
      (context) => context.sourceIp,
    ),
    textField(
      (match) => match.namespaces,
      (context) => context.namespace,
    ),
    blockField(
      (match) => match.destinationIps,
      (context) => context.destinationIp,
    ),
    portField(),
  ];
}

const WHOLE = 0;

function textField<T>(
  valuesOf: (match: Match) => readonly StringMatch[],
  textOf: (context: PolicyContext) => string | undefined,
  othersOf?: (context: PolicyContext) => readonly string[] | undefined,
): Field<T> {
  const exact = new Table<T>();
  const prefix = new Table<T>();
  const suffix = new Table<T>();
  const slotsOf = (match: StringMatch): Slot<T>[] | undefined => {
    switch (match.kind) {
      case 'exact':
        return [{ table: exact, length: WHOLE, key: match.value }];
      case 'prefix':
        return [{ table: prefix, length: match.value.length, key: match.value }];
      case 'suffix':
        return [{ table: suffix, length: match.value.length, key: match.value }];
      case 'never':
        return [];
      case 'presence':
        return undefined;
    }
  };
  const findText = (text: string, test: (entry: T) => boolean): T | undefined => {
    const { length: size } = text;
    return (
      exact.find(() => text, test) ??
      prefix.find((length) => (length <= size ? text.slice(0, length) : undefined), test) ??
      suffix.find((length) => (length <= size ? text.slice(size - length) : undefined), test)
    );
  };
  return {
    slots: (match) => together(valuesOf(match), slotsOf),
    find(context, test) {
      const text = textOf(context);
      let found = text === undefined ? undefined : findText(text, test);
      for (const other of othersOf?.(context) ?? []) found ??= findText(other, test);
      return found;
    },
  };
}

function accountField<T>(): Field<T> {
  const table = new Table<T>();
  return {
    slots: (match) =>
      together(match.serviceAccounts, ({ namespace, serviceAccount }) => [
        { table, length: WHOLE, key: `${namespace}/${serviceAccount}` },
      ]),
    find: ({ principal, namespace, serviceAccount }, test) =>
      principal === undefined ? undefined : table.find(() => `${namespace}/${serviceAccount ?? ''}`, test),
  };
}

function portField<T>(): Field<T> {
  const table = new Table<T>();
  return {
    slots: (match) => together(match.destinationPorts, (port) => [{ table, length: WHOLE, key: port }]),
    find: ({ destinationPort }, test) => table.find(() => destinationPort, test),
  };
}

function blockField<T>(blocksOf: (match: Match) => readonly Cidr[], ipOf: (context: PolicyContext) => Uint8Array): Field<T> {
  const ipv4 = new Table<T>();
  const ipv6 = new Table<T>();
  const tableOf = (bytes: Uint8Array): Table<T> => (bytes.length === 4 ? ipv4 : ipv6);
  return {
    slots: (match) =>
      together(blocksOf(match), ({ bytes, length }) => [{ table: tableOf(bytes), length, key: blockKey(bytes, length) }]),
    find(context, test) {
      const ip = ipOf(context);
      return ip.length === 0 ? undefined : tableOf(ip).find((length) => blockKey(ip, length), test);
    },
  };
}

/** The first `length` bits: a number for IPv4, octets as characters for IPv6. */
function blockKey(bytes: Uint8Array, length: number): Key {
  if (bytes.length === 4) {
    const value = (((bytes[0] ?? 0) << 24) | ((bytes[1] ?? 0) << 16) | ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0)) >>> 0;
    return length === 0 ? 0 : value >>> (32 - length);
  }
  const whole = length >> 3;
  const rest = length & 7;
  let key = '';
  for (let i = 0; i < whole; i++) key += String.fromCharCode(bytes[i] ?? 0);
  return rest === 0 ? key : key + String.fromCharCode((bytes[whole] ?? 0) & (0xff << (8 - rest)));
}

/** Undefined when the list is empty, or when one of its values can be hit in any place. */
function together<V, T>(values: readonly V[], slotsOf: (value: V) => Slot<T>[] | undefined): Slot<T>[] | undefined {
  if (values.length === 0) return undefined;
  const all: Slot<T>[] = [];
  for (const value of values) {
    const slots = slotsOf(value);
    if (!slots) return undefined;
    all.push(...slots);
  }
  return all;
}
