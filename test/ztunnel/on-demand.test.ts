// XDS_ON_DEMAND with a real control plane: a ztunnel knows its pods and whom they talk to, and nobody else.
import { once } from 'node:events';
import t from 'tap';
import { SERVICE_YAML, podYaml, runningApp } from '../controlplane/running-app.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { DNS_PROXY, askUdp } from '../harness/dns.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';

const NAMESPACE = 'default';
const web = aWorkload('client', { namespace: NAMESPACE, serviceAccount: 'default', node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('server', { namespace: NAMESPACE, serviceAccount: 'default', node: 'node-2', ips: ['10.1.0.3'] });
const outside = aWorkload('outside', { ips: ['10.1.0.9'] });

/** A pod that is enrolled, on its node. */
function enrolled(name: string, ip: string, nodeName: string, app: string): string {
  const pod = JSON.parse(podYaml(name, ip, { app })) as { metadata: Record<string, unknown>; spec: Record<string, unknown> };
  pod.metadata['annotations'] = { 'ambient.istio.io/redirection': 'enabled' };
  pod.spec['nodeName'] = nodeName;
  return JSON.stringify(pod);
}

for (const threads of ['1', 'main'])
  t.test(`with ${threads === '1' ? 'a data worker' : 'the main thread'}`, { timeout: 60_000 }, async (t) => {
    const plane = await runningApp(t, {
      'web.yaml': SERVICE_YAML,
      'client.yaml': enrolled('client', '10.1.0.1', 'node-1', 'client'),
      'server.yaml': enrolled('server', '10.1.0.3', 'node-2', 'web'),
      'bystander.yaml': enrolled('bystander', '10.1.0.4', 'node-2', 'bystander'),
    });
    const lab = new MeshLab(t);
    const env = {
      XDS_ADDRESS: `http://127.0.0.1:${plane.ports.plaintext}`,
      XDS_ON_DEMAND: 'true',
      ZTUNNEL_WORKER_THREADS: threads,
    };
    const [near, far] = [await lab.node('node-1', env), await lab.node('node-2', env)];
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    await server.serve((socket) => socket.pipe(socket), 8080);
    const held = (): string[] => Array.from(near.app.store.workloads.values(), ({ name }) => name).sort();
    await eventually('the own pod', () => (held().length === 1 ? true : undefined));
    t.same(held(), ['client'], 'at first the own pod alone');

    const hello = async (to: { ip: string; port: number }): Promise<string> => {
      const socket = await client.connect(to);
      socket.end('hello');
      const [answer] = (await once(socket, 'data')) as [Buffer];
      socket.destroy();
      return answer.toString();
    };
    t.equal(await hello({ ip: '10.96.0.9', port: 80 }), 'hello', 'the first connection waits for what it needs');
    t.match(await near.line({ direction: 'outbound' }), {
      'dst.addr': '10.1.0.3:15008',
      'dst.service': 'web.default.svc.cluster.local',
      'dst.identity': cart.identity,
    });
    t.same(held(), ['client', 'server'], 'and nobody else is known');
    t.match(await far.line({ direction: 'inbound' }), { 'src.identity': web.identity });
    await eventually('the caller', () => far.app.store.workloads.byAddress('', '10.1.0.1'));

    const plain = lab.pod(outside);
    await plain.serve((socket) => socket.pipe(socket), 9000);
    t.equal(await hello({ ip: '10.1.0.9', port: 9000 }), 'hello', 'what the mesh does not have is passed through');
    t.match(await near.line({ direction: 'outbound' }), { 'dst.addr': '10.1.0.9:9000' });

    await plane.put('api.yaml', SERVICE_YAML.replaceAll('web', 'api').replace('10.96.0.9', '10.96.0.10'));
    const reply = await eventually('the name of a service that came later', async () => {
      const asked = await askUdp(client.netns.fd, DNS_PROXY, { name: 'api.default.svc.cluster.local', type: 'A' });
      return asked.answers?.length ? asked : undefined;
    });
    t.match(reply.answers, [{ data: '10.96.0.10' }]);

    const explained = await fetch(`http://127.0.0.1:${near.app.ports.admin}/explain?src=default/client&dst=10.1.0.4:80`);
    t.match(await explained.json(), { rule: 'workload', nextHop: { kind: 'hbone', workload: 'default/bystander' } });
  });
