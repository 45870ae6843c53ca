// The YAML parser, loaded by the first text that is parsed: its 70 modules would be a good part of the start of a program that reads none.
import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';

/** Throws what the parser says of the text. */
export function parseYaml(text: string): unknown {
  const { parse } = createRequire(import.meta.url)('yaml') as typeof Yaml;
  return parse(text);
}
