// The runtime's side of CNI, with plugins that are small shell scripts and write down what they were given.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { createNetns, deleteNetns } from '../../../../cli/lab/net/netns.ts';
import { cniAdd, cniDel } from '../../../../cli/lab/pod/cni.ts';
import type { CniNetwork } from '../../../../cli/lab/pod/cni.ts';

const needsRoot = process.getuid?.() !== 0 && 'needs root';
const target = { containerId: 'c1', netnsPath: '/run/netns/p', podName: 'one', podNamespace: 'shop', podUid: 'u1' };

async function setUp(t: Test, plugins: Record<string, string>): Promise<{ network: CniNetwork; calls: () => string[] }> {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-cni-'));
  const netns = `culvert-test-${process.pid}-cni-${Object.keys(plugins).join('')}`;
  await createNetns(netns);
  t.teardown(async () => {
    await deleteNetns(netns);
    rmSync(dir, { recursive: true, force: true });
  });
  const log = join(dir, 'calls');
  writeFileSync(log, '');
  for (const [name, body] of Object.entries(plugins)) {
    const file = join(dir, name);
    writeFileSync(file, `#!/bin/sh\nin=$(cat)\nprintf '%s\\n' "$CNI_COMMAND ${name} $CNI_ARGS $in" >> ${log}\n${body}\n`);
    chmodSync(file, 0o755);
  }
  const network = {
    name: 'net',
    plugins: Object.keys(plugins).map((type) => ({ type, own: type })),
    path: ['/nowhere', dir],
    nodeNetns: netns,
  };
  return { network, calls: () => readFileSync(log, 'utf8').trim().split('\n') };
}

t.test('each plugin gets its configuration and the result of the one before', { skip: needsRoot }, async (t) => {
  const { network, calls } = await setUp(t, {
    a: `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}'`,
    b: `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.3/24"}]}'`,
  });
  const result = await cniAdd(network, target);
  t.equal(result.ips?.[0]?.address, '10.0.0.3/24', 'the result is that of the last one');
  await cniDel(network, target, result);
  const [addA, addB, delB, delA] = calls();
  t.match(addA, /^ADD a IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=one;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1 /u);
  t.match(addA, '"cniVersion":"1.0.0","name":"net","type":"a","own":"a"}');
  t.match(addB, '"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}');
  t.match(delB, /^DEL b .*"prevResult":\{.*10\.0\.0\.3/u, 'DEL in reverse order, with the final result');
  t.match(delA, /^DEL a /u);
});

t.test('a plugin that fails undoes the others, and its message is told', { skip: needsRoot }, async (t) => {
  const { network, calls } = await setUp(t, {
    a: `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0"}'`,
    c: `[ $CNI_COMMAND = DEL ] && exit 0; echo '{"code":11,"msg":"no agent","details":"try again"}'; exit 1`,
  });
  await t.rejects(cniAdd(network, target), /CNI ADD of c failed: no agent: try again/u);
  t.same(
    calls().map((line) => line.slice(0, 5)),
    ['ADD a', 'ADD c', 'DEL c', 'DEL a'],
  );
});

t.test('a plugin that is nowhere is named', { skip: needsRoot }, async (t) => {
  const { network } = await setUp(t, { d: 'true' });
  await t.rejects(cniAdd({ ...network, plugins: [{ type: 'missing' }] }, target), /plugin missing is in none of \/nowhere/u);
});
