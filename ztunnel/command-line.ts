// The arguments of a ztunnel: those of Istio's (`proxy`, the default, `version`, `help`; facts: ztunnel 1), and ours.
import { MeshError } from '#shared/errors.ts';

export type Command = { readonly kind: 'proxy'; readonly takeover: boolean } | { readonly kind: 'version' | 'help' };

export const USAGE = `usage: ztunnel [proxy [ztunnel]] [--takeover]
       ztunnel version
       ztunnel help

Configured by its environment (docs/seams.md). --takeover takes pods, listening sockets and counters over from the ztunnel that runs here.
`;

/** `args`: without the program and its file. Throws `invalid_config` on what it does not know, rather than start something else than was meant. */
export function parseCommand(args: readonly string[]): Command {
  const [first, ...rest] = args;
  if (first === 'version') return only('version', rest);
  if (first === 'help' || first === '--help' || first === '-h') return only('help', rest);
  // Istio's image is started with `proxy ztunnel`: the second names the kind of proxy, and there is one.
  const words = first === 'proxy' ? rest.slice(rest[0] === 'ztunnel' ? 1 : 0) : args;
  for (const word of words) if (word !== '--takeover') throw unknown(word);
  return { kind: 'proxy', takeover: words.length > 0 };
}

function only(kind: 'version' | 'help', rest: readonly string[]): Command {
  const [more] = rest;
  if (more !== undefined) throw unknown(more);
  return { kind };
}

function unknown(word: string): MeshError {
  return new MeshError('invalid_config', `unknown argument "${word}"\n${USAGE}`);
}
