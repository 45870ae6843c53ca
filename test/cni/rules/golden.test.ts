// The texts of the rules, reviewed as files. REFRESH_GOLDEN=true writes them anew.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { addProbed, hostRules, removeProbed } from '../../../cni/rules/host.ts';
import { DEFAULT_POD_RULES, idleRules, podRules } from '../../../cni/rules/pod.ts';
import { HOST, POD_VARIANTS } from './variants.ts';

const folder = path.join(import.meta.dirname, '../../golden/nft');

function golden(t: Test, name: string, text: string): void {
  const file = path.join(folder, `${name}.nft`);
  if (process.env['REFRESH_GOLDEN'] === 'true') writeFileSync(file, text);
  t.equal(text, readFileSync(file, 'utf8'), `${name}.nft`);
}

t.test('pod', async (t) => {
  for (const [name, options] of Object.entries(POD_VARIANTS)) golden(t, `pod-${name}`, podRules(options));
  golden(t, 'pod-idle', idleRules(DEFAULT_POD_RULES));
  const gateway = { ...DEFAULT_POD_RULES, ingressMode: true, virtualInterfaces: ['docker0'] };
  t.equal(idleRules(gateway), idleRules(DEFAULT_POD_RULES), 'whatever was captured');
});

t.test('host', async (t) => {
  golden(t, 'host-empty', hostRules(HOST, []));
  golden(t, 'host-two-pods', hostRules(HOST, ['10.244.1.5', 'fd00::5']));
  golden(t, 'host-ipv4', hostRules({ ...HOST, ipv6: false }, ['10.244.1.5', 'fd00::5']));
  golden(t, 'host-add', addProbed(HOST, ['10.244.1.5', '10.244.1.6', 'fd00::5']));
  golden(t, 'host-remove', removeProbed(HOST, ['10.244.1.5']));
});

t.test('a name that is no interface never reaches nft', async (t) => {
  for (const name of ['', 'a b', 'x"; drop', 'sixteen-letters-', 'a\nb'])
    t.throws(
      () => podRules({ ...DEFAULT_POD_RULES, virtualInterfaces: [name] }),
      { code: 'invalid_config' },
      JSON.stringify(name),
    );
});
