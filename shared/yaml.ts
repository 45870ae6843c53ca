// The YAML parser, loaded by the first text that is parsed: its 70 modules would be a good part of the start of a program that reads none.
import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';

export interface YamlOptions {
  /** Names that may stand as tags: `!Name value` is read as `{ Name: value }`, which is how Rust programs write values of several kinds. */
  readonly tags?: readonly string[];
}

/** Throws what the parser says of the text. */
export function parseYaml(text: string, { tags = [] }: YamlOptions = {}): unknown {
  const { parse, Scalar } = createRequire(import.meta.url)('yaml') as typeof Yaml;
  const customTags = tags.flatMap((name): Yaml.Tags => {
    const tag = `!${name}`;
    const node = (value: unknown): Yaml.Scalar => new Scalar({ [name]: value });
    const list = { tag, collection: 'seq' as const, resolve: (seq: unknown) => node((seq as Yaml.YAMLSeq).toJSON()) };
    const map = { tag, collection: 'map' as const, resolve: (own: unknown) => node((own as Yaml.YAMLMap).toJSON()) };
    return [{ tag, resolve: (value: string) => ({ [name]: value }) }, list, map];
  });
  return parse(text, { customTags });
}
