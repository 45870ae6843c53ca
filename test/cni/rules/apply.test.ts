// The kernel takes every variant of the rules, twice over, and lets go of them again.
import t from 'tap';
import {
  applyPodRules,
  capturePod,
  nft,
  preparePod,
  removePodRules,
  verifyPodRules,
  verifyTable,
} from '../../../cni/rules/apply.ts';
import { addProbed, hostChains, hostRules, HOST_TABLE, REMOVE_HOST_RULES, removeProbed } from '../../../cni/rules/host.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod.ts';
import { makeNetns } from '../netns.ts';
import { HOST, POD_VARIANTS } from './variants.ts';

t.test('pod rules: apply, apply again, remove, remove again', async (t) => {
  const pod = makeNetns(t);
  for (const [name, options] of Object.entries(POD_VARIANTS)) {
    await applyPodRules(pod.fd, options);
    await applyPodRules(pod.fd, options);
    await t.resolves(verifyPodRules(pod.fd, options), name);
  }
  t.match(await pod.run('ip', 'rule'), /32764:\tfrom all fwmark 0x111\/0xfff lookup 100/u);
  t.equal((await pod.run('ip', 'rule')).match(/32764/gu)?.length, 1, 'one rule however often it is applied');
  t.match(await pod.run('ip', '-6', 'rule'), /32764:/u);
  t.match(await pod.run('ip', 'route', 'show', 'table', '100'), /local default dev lo/u);
  await removePodRules(pod.fd);
  await removePodRules(pod.fd);
  t.equal(await pod.run('nft', 'list', 'ruleset'), '');
  t.notMatch((await pod.run('ip', 'rule')) + (await pod.run('ip', '-6', 'rule')), /32764/u);
});

// A pod that had the setting for marks of its own was left without it.
for (const [before, during] of [
  ['0', '2'],
  ['1', '1'],
] as const)
  t.test(`tcp_fwmark_accept=${before} is so again behind the rules`, async (t) => {
    const pod = makeNetns(t);
    const setting = (value?: string): Promise<string> =>
      pod.run('sysctl', '-n', ...(value ? ['-w'] : []), `net.ipv4.tcp_fwmark_accept${value ? `=${value}` : ''}`);
    await setting(before);
    await applyPodRules(pod.fd, DEFAULT_POD_RULES);
    await applyPodRules(pod.fd, DEFAULT_POD_RULES);
    t.equal((await setting()).trim(), during);
    await removePodRules(pod.fd);
    t.equal((await setting()).trim(), before);
  });

t.test('in two steps as in one; the first captures nothing', async (t) => {
  const pod = makeNetns(t);
  const rules = (): Promise<string> => pod.run('nft', '-s', 'list', 'ruleset');
  for (const [name, options] of Object.entries(POD_VARIANTS)) {
    await applyPodRules(pod.fd, options);
    const whole = await rules();
    await removePodRules(pod.fd);
    await preparePod(pod.fd, options);
    t.notMatch(await rules(), /redirect/u, name);
    await capturePod(pod.fd, options);
    t.equal(withoutEmptyChains(await rules()), withoutEmptyChains(whole), name);
    await removePodRules(pod.fd);
  }
});

function withoutEmptyChains(listing: string): string {
  return listing.replaceAll(/\tchain \w+ \{\n\t\ttype [^\n]*\n\t\}\n\n?/gu, '');
}

t.test('rules that somebody tampered with are noticed', async (t) => {
  const pod = makeNetns(t);
  await t.rejects(verifyPodRules(pod.fd, DEFAULT_POD_RULES), { message: /not there/u });
  await applyPodRules(pod.fd, DEFAULT_POD_RULES);
  await pod.run('nft', 'flush', 'chain', 'inet', 'culvert', 'capture_out');
  await t.rejects(verifyPodRules(pod.fd, DEFAULT_POD_RULES), { message: /capture_out: 0 rules, should be 3/u });
});

t.test('a pod without IPv6 gets its rules', async (t) => {
  const pod = makeNetns(t);
  await pod.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
  await t.resolves(applyPodRules(pod.fd, DEFAULT_POD_RULES));
  await t.resolves(removePodRules(pod.fd));
});

t.test('host rules: addresses come and go', async (t) => {
  const node = makeNetns(t);
  await nft(node.fd, hostRules(HOST, ['10.244.1.5', 'fd00::5']));
  await nft(node.fd, addProbed(HOST, ['10.244.1.5', '10.244.1.6']));
  await nft(node.fd, removeProbed(HOST, ['10.244.1.5', '10.244.1.99']));
  const set = await node.run('nft', 'list', 'set', 'inet', 'culvert_probes', 'pods4');
  t.match(set, /10\.244\.1\.6/u);
  t.notMatch(set, /10\.244\.1\.(5|99)/u);
  await t.resolves(verifyTable(node.fd, HOST_TABLE, hostChains(HOST)));
  await nft(node.fd, REMOVE_HOST_RULES);
  t.equal(await node.run('nft', 'list', 'ruleset'), '');
});

t.test('a fault says what it was', async (t) => {
  const pod = makeNetns(t);
  await t.rejects(nft(pod.fd, 'add rule inet nowhere x accept\n'), { name: 'MeshError', message: /No such file or directory/u });
  await t.rejects(nft(pod.fd, 'gibberish\n'), { name: 'MeshError', message: /does not understand/u });
});
