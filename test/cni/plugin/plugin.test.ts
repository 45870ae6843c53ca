// The executable as a container runtime runs it, with an agent of the test's own behind the socket.
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { addressesOf, parseNetConf } from '../../../cni/plugin/spec.ts';
import { execPlugin, LAUNCHER } from '../node.ts';
import type { PluginResult } from '../node.ts';

interface Call {
  path: string | undefined;
  body: Record<string, unknown>;
}

interface Fake {
  calls: Call[];
  dir: string;
  answer: { status: number; body: string } | 'silence';
  run(command: string, conf?: Record<string, unknown>, env?: Record<string, string>): Promise<PluginResult>;
}

async function fakeAgent(t: Test): Promise<Fake> {
  const dir = mkdtempSync(path.join(tmpdir(), 'cni-plugin-'));
  const fake: Fake = {
    calls: [],
    dir,
    answer: { status: 200, body: '{}' },
    run: (command, conf = {}, env = {}) =>
      execPlugin(LAUNCHER, {
        env: {
          CNI_COMMAND: command,
          CNI_CONTAINERID: 'c1',
          CNI_NETNS: '/run/netns/x',
          CNI_IFNAME: 'eth0',
          CNI_PATH: '/opt/cni/bin',
          CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1',
          ...env,
        },
        stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'n', type: 'culvert-cni', cni_agent_run_dir: dir, ...conf }),
      }),
  };
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    request.on('end', () => {
      fake.calls.push({ path: request.url, body: JSON.parse(text) });
      if (fake.answer !== 'silence') response.writeHead(fake.answer.status).end(fake.answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(path.join(dir, 'pluginevent.sock'), resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return fake;
}

t.test('ADD in every version: the event, and prevResult back unchanged', async (t) => {
  const fake = await fakeAgent(t);
  for (const cniVersion of ['0.4.0', '1.0.0', '1.1.0']) {
    const prevResult = {
      cniVersion,
      interfaces: [{ name: 'eth0', mac: '00:11:22:33:44:55', sandbox: '/run/netns/x', mtu: 1500 }],
      ips: [
        { version: '4', address: '10.0.0.5/24', gateway: '10.0.0.1', interface: 0 },
        { version: '6', address: 'fd00::5/64', interface: 0 },
      ],
      routes: [{ dst: '0.0.0.0/0' }],
      dns: { nameservers: ['10.96.0.10'] },
      extension: { kept: null },
    };
    const { code, stdout, stderr } = await fake.run('ADD', { cniVersion, prevResult });
    t.match({ code, stderr }, { code: 0, stderr: '' }, cniVersion);
    t.same(JSON.parse(stdout), prevResult);
  }
  t.same(fake.calls[0], {
    path: '/cmdadd',
    body: {
      Netns: '/run/netns/x',
      PodName: 'cart',
      PodNamespace: 'shop',
      PodUID: 'u1',
      ContainerID: 'c1',
      IPs: [{ Address: { IP: '10.0.0.5' } }, { Address: { IP: 'fd00::5' } }],
    },
  });
  const alone = await fake.run('ADD');
  t.same(JSON.parse(alone.stdout), { cniVersion: '1.0.0', interfaces: [], ips: [], dns: {} }, 'first in its chain');
});

t.test('what the agent refuses fails with its reason', async (t) => {
  const fake = await fakeAgent(t);
  fake.answer = { status: 500, body: 'ztunnel refused add: no\n' };
  const refused = await fake.run('ADD', { cniVersion: '0.4.0' });
  t.equal(refused.code, 1);
  t.match(JSON.parse(refused.stdout), { cniVersion: '0.4.0', code: 100, msg: 'ztunnel refused add: no' });
  t.match(await fake.run('CHECK'), { code: 1 });
  t.match(await fake.run('DEL'), { code: 0, stdout: '', stderr: /DEL of shop\/cart: ztunnel refused/u }, 'a pod may always go');
  fake.answer = 'silence';
  const silent = await fake.run('ADD');
  t.match(JSON.parse(silent.stdout), { code: 11, msg: /no answer within 5000 ms/u });
});

t.test('verbs and their paths', async (t) => {
  const fake = await fakeAgent(t);
  t.match(await fake.run('DEL', {}, { CNI_NETNS: '' }), { code: 0, stdout: '' });
  t.match(await fake.run('CHECK'), { code: 0, stdout: '' });
  t.match(await fake.run('STATUS', { cniVersion: '1.1.0' }), { code: 0, stdout: '' });
  const attachments = { 'cni.dev/valid-attachments': [{ containerID: 'c1', ifname: 'eth0' }] };
  t.match(await fake.run('GC', { cniVersion: '1.1.0', ...attachments }), { code: 0, stdout: '' });
  t.same(
    fake.calls.map((call) => call.path),
    ['/cmddel', '/cmdcheck', '/status', '/cmdgc'],
  );
  t.same(fake.calls[3]?.body, { ValidContainers: ['c1'] });
  const version = await fake.run('VERSION', { cniVersion: '0.4.0' });
  t.match(JSON.parse(version.stdout), { cniVersion: '0.4.0', supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] });
  t.match(await fake.run('ADD', { exclude_namespaces: ['shop'] }), { code: 0 });
  t.equal(fake.calls.length, 4, 'an excluded namespace is not asked for');
});

t.test('faults of the caller', async (t) => {
  const fake = await fakeAgent(t);
  const faults: [command: string, conf: Record<string, unknown>, env: Record<string, string>, code: number][] = [
    ['ADD', { cniVersion: '2.0.0' }, {}, 1],
    ['ADD', {}, { CNI_NETNS: '' }, 4],
    ['DANCE', {}, {}, 4],
    ['ADD', {}, { CNI_ARGS: 'nonsense' }, 4],
    ['ADD', { cni_agent_run_dir: 'relative' }, {}, 7],
    ['ADD', { exclude_namespaces: 'shop' }, {}, 7],
    ['ADD', { prevResult: [] }, {}, 7],
  ];
  for (const [command, conf, env, code] of faults) {
    const result = await fake.run(command, conf, env);
    t.equal(result.code, 1);
    t.match(JSON.parse(result.stdout), { code, cniVersion: String, msg: String }, result.stdout.trim());
  }
  const garbage = await execPlugin(LAUNCHER, { env: { CNI_COMMAND: 'ADD' }, stdin: '{' });
  t.match(JSON.parse(garbage.stdout), { code: 6 });
  t.equal(fake.calls.length, 0);
});

t.test('it runs from the folder of a runtime, by a link, and starts fast', async (t) => {
  const fake = await fakeAgent(t);
  const link = path.join(fake.dir, 'culvert-cni');
  symlinkSync(LAUNCHER, link);
  const times: number[] = [];
  for (let run = 0; run < 5; run++) {
    const started = performance.now();
    t.match(await execPlugin(link, { env: { CNI_COMMAND: 'VERSION' }, stdin: '' }), { code: 0 });
    times.push(performance.now() - started);
  }
  const best = Math.min(...times);
  t.comment(`best of five: ${best.toFixed(0)} ms`);
  // Tens of milliseconds on an idle machine; a heavy import would make it seconds on a busy one.
  t.ok(best < 1500, 'a pod waits for this');
});

t.test('configuration and result', async (t) => {
  t.same(parseNetConf('{"cniVersion":"1.0.0","name":"n","prevResult":null}'), {
    cniVersion: '1.0.0',
    name: 'n',
    prevResult: undefined,
    runDir: '/var/run/culvert-cni',
    excludeNamespaces: [],
    validContainers: undefined,
  });
  t.same(addressesOf(undefined), []);
  t.same(addressesOf({ ips: [{ address: '10.0.0.1/8' }, { address: 5 }, null] }), ['10.0.0.1']);
});
