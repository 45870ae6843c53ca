// Policies in the YAML of a state file (local-file.ts), in the field names of /config_dump.
import { MeshError } from '#shared/errors.ts';
import type { Cidr } from './cidr.ts';
import { readCidr } from './local-values.ts';
import type { Match, Policy, ServiceAccountMatch, StringMatch } from './model.ts';
import type { YamlReader } from './yaml-reader.ts';

/** The kinds of a string match: `{ Exact: text }`, or `!Exact text`. Never is what a control plane sent without a kind that we know. */
export const STRING_MATCHES = ['Exact', 'Prefix', 'Suffix', 'Presence', 'Never'] as const;

export function readPolicy(entry: YamlReader): Policy {
  const name = entry.text('name');
  const namespace = entry.text('namespace', '');
  const policy: Policy = {
    key: `${namespace}/${name}`,
    name,
    namespace,
    scope: entry.oneOf('scope', ['Global', 'Namespace', 'WorkloadSelector'], 'Global'),
    action: entry.oneOf('action', ['Allow', 'Deny'], 'Allow'),
    dryRun: entry.flag('dryRun'),
    rules: entry.nested('rules').map((rule) => rule.map((clause) => clause.map(readMatch))),
  };
  entry.done();
  return policy;
}

function readMatch(entry: YamlReader): Match {
  const strings = (name: string): StringMatch[] => entry.list(name).map(readString);
  const cidrs = (name: string): Cidr[] => entry.texts(name).map((text) => readCidr(text, entry.field(name)));
  const accounts = (name: string): ServiceAccountMatch[] =>
    entry.list(name).map((each) => ({ namespace: each.text('namespace'), serviceAccount: each.text('serviceAccount') }));
  const match: Match = {
    namespaces: strings('namespaces'),
    notNamespaces: strings('notNamespaces'),
    principals: strings('principals'),
    notPrincipals: strings('notPrincipals'),
    serviceAccounts: accounts('serviceAccounts'),
    notServiceAccounts: accounts('notServiceAccounts'),
    sourceIps: cidrs('sourceIps'),
    notSourceIps: cidrs('notSourceIps'),
    destinationIps: cidrs('destinationIps'),
    notDestinationIps: cidrs('notDestinationIps'),
    destinationPorts: entry.numbers('destinationPorts'),
    notDestinationPorts: entry.numbers('notDestinationPorts'),
  };
  entry.done();
  return match;
}

/** Exactly one kind: with two, one of them would count for nothing. */
function readString(entry: YamlReader): StringMatch {
  const [[name] = [''], ...more] = entry.entries('');
  const kind = STRING_MATCHES.find((each) => each.toLowerCase() === name.toLowerCase());
  if (kind === undefined || more.length > 0)
    throw new MeshError('invalid_config', `${entry.field('')}: "${name}" is not one of ${STRING_MATCHES.join(', ')}, alone`);
  switch (kind) {
    case 'Exact':
      return { kind: 'exact', value: entry.text(name) };
    case 'Prefix':
      return { kind: 'prefix', value: entry.text(name) };
    case 'Suffix':
      return { kind: 'suffix', value: entry.text(name) };
    case 'Presence':
      return { kind: 'presence' };
    case 'Never':
      return { kind: 'never' };
  }
}
