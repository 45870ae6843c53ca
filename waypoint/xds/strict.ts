// Refusing what is not implemented. A resource of ours may hold only fields that this waypoint acts upon; any other one that is set
// rejects the resource with the field's name, because a field that is ignored is a behaviour that somebody relies on and lacks.
import { setFlagsFromString } from 'node:v8';
import { type DescMessage, fromBinary, isFieldSet, type MessageShape } from '@bufbuild/protobuf';
import type { Any, Duration } from '@bufbuild/protobuf/wkt';
import { MeshError } from '#shared/errors.ts';

/** A field path of a resource, as NACKs show it: `filter_chains[0].filters[1].typed_config`. */
export class Path {
  readonly #text: string;

  constructor(text = '') {
    this.#text = text;
  }

  at(field: string, index?: number): Path {
    const name = index === undefined ? field : `${field}[${index}]`;
    return new Path(this.#text === '' ? name : `${this.#text}.${name}`);
  }

  refuse(reason: string): never {
    throw new MeshError('invalid_config', this.#text === '' ? reason : `${this.#text}: ${reason}`);
  }

  toString(): string {
    return this.#text;
  }
}

/** Throws when a field outside `known` (proto names, oneof members by their own name) is set. */
export function only<D extends DescMessage>(schema: D, message: MessageShape<D>, path: Path, known: readonly string[]): void {
  for (const field of schema.fields) {
    if (isFieldSet(message, field) && !known.includes(field.name)) path.at(field.name).refuse('not supported');
  }
  const [unknown] = message.$unknown ?? [];
  if (unknown) path.refuse(`field number ${unknown.no} of ${schema.typeName} is not known`);
}

/** The message inside an extension's configuration. */
export function unpack<D extends DescMessage>(schema: D, value: Any | undefined, path: Path): MessageShape<D> {
  if (!value) path.refuse('is missing');
  if (typeName(value) !== schema.typeName) path.refuse(`${typeName(value)} is not supported here`);
  return fromBinary(schema, value.value);
}

export function typeName(value: Any): string {
  return value.typeUrl.slice(value.typeUrl.lastIndexOf('/') + 1);
}

/** The configuration of a filter, access log or transport socket: `config_type` as every Envoy extension has it. */
export function typedConfig(holder: { configType: { case?: string | undefined; value?: unknown } }, path: Path): Any {
  const { configType } = holder;
  if (configType.case !== 'typedConfig') path.refuse('needs a typed_config');
  return configType.value as Any;
}

/** Milliseconds. */
export function milliseconds(value: Duration): number {
  return Number(value.seconds) * 1000 + value.nanos / 1e6;
}

/** The flag of V8's linear engine. */
const LINEAR = 'l';

/**
 * An expression that must match the whole text, as RE2 would. What a client sends decides how long an ordinary expression takes, up
 * to minutes for `(a+)+`: V8 is told to give up backtracking for its linear engine, and what that engine cannot run (look-around,
 * back references, long counted repetitions) is refused, as are classes that need the flag it does not know.
 */
export function fullMatch(source: string, path: Path): RegExp {
  setFlagsFromString('--enable-experimental-regexp-engine');
  setFlagsFromString('--enable-experimental-regexp-engine-on-excessive-backtracks');
  if (/\\p\{/iu.test(source)) return path.refuse(`"${source}" uses Unicode classes, which this proxy does not know`);
  const whole = `^(?:${source})$`;
  try {
    // Matching itself begins with the faster engine.
    void new RegExp(whole, LINEAR);
    return new RegExp(whole);
  } catch (error) {
    return path.refuse(`"${source}" is not a regular expression that this proxy knows: ${String(error)}`);
  }
}
