// A chain as a kubelet's runtime runs it: bridge with host-local, then our plugin, each fed with the result of the one before.
import { existsSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { FakeZtunnel } from '../fake-ztunnel.ts';
import { makeNetns } from '../netns.ts';
import { execPlugin, LAUNCHER, TestNode } from '../node.ts';
import { askOnce, makeReactor, serve } from '../talk.ts';

const PLUGINS = '/usr/lib/cni';

t.test('bridge, host-local, culvert-cni', async (t) => {
  t.ok(existsSync(`${PLUGINS}/bridge`), `${PLUGINS}/bridge comes with containernetworking-plugins`);
  const node = new TestNode(t);
  const pod = makeNetns(t);
  node.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  node.pod('shop', 'cart');
  await node.start();
  await FakeZtunnel.connect(t, node.zdsPath);
  const network = { cniVersion: '1.0.0', name: 'lab' };
  const bridge = {
    ...network,
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipam: { type: 'host-local', subnet: '10.98.0.0/24', routes: [{ dst: '0.0.0.0/0' }], dataDir: path.join(node.dir, 'ipam') },
  };
  const culvert = { ...network, type: 'culvert-cni', cni_agent_run_dir: node.runDir };
  const env = {
    CNI_CONTAINERID: 'c-cart',
    CNI_NETNS: pod.path,
    CNI_IFNAME: 'eth0',
    CNI_PATH: PLUGINS,
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=uid-cart',
  };
  // The runtime runs its plugins in the node's namespace.
  const inNode = ['nsenter', `--net=${node.netns.path}`] as const;
  const run = async (
    command: string,
    conf: Record<string, unknown>,
    file: string,
  ): Promise<Record<string, unknown> | undefined> => {
    const result = await execPlugin(inNode[0], { env: { ...env, CNI_COMMAND: command }, stdin: JSON.stringify(conf) }, [
      inNode[1],
      file,
    ]);
    t.equal(result.code, 0, `${command} ${String(conf['type'])} ${result.stdout}${result.stderr}`);
    return result.stdout === '' ? undefined : (JSON.parse(result.stdout) as Record<string, unknown>);
  };

  const first = await run('ADD', bridge, `${PLUGINS}/bridge`);
  const last = await run('ADD', { ...culvert, prevResult: first }, LAUNCHER);
  t.same(last, first);
  await run('CHECK', { ...culvert, prevResult: last }, LAUNCHER);
  await run('CHECK', { ...bridge, prevResult: last }, `${PLUGINS}/bridge`);

  const [{ address = '' } = {}] = (first?.['ips'] ?? []) as { address?: string }[];
  const ip = address.replace(/\/.*/u, '');
  t.match(ip, /^10\.98\.0\./u);
  const reactor = makeReactor(t);
  await serve(reactor, 'inbound', pod.fd, 15_006, { mark: 0x539 });
  await serve(reactor, 'outbound', pod.fd, 15_001, { mark: 0x539 });
  await serve(reactor, 'app', pod.fd, 8080);
  // A connection of the node's root user passes for a kubelet probe; with another source it is traffic like any other.
  t.equal(await askOnce(reactor, node.netns.fd, { ip, port: 8080 }), `app ${ip}:8080 from 169.254.7.127`);
  t.equal(await askOnce(reactor, pod.fd, { ip: '10.98.0.1', port: 80 }), `outbound 10.98.0.1:80 from ${ip}`);

  await run('DEL', { ...culvert, prevResult: last }, LAUNCHER);
  await run('DEL', { ...bridge, prevResult: last }, `${PLUGINS}/bridge`);
  t.notMatch(await pod.run('ip', 'addr'), /eth0/u);
});
