// Names in a whole mesh: the CNI agent captures DNS as the charts have it, ztunnel answers or asks the cluster's DNS server.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { startMeshApp } from '../harness/mesh-app.ts';

const run = promisify(execFile);

const HEADLESS = `
---
apiVersion: v1
kind: Service
metadata: { name: peers, namespace: inside }
spec: { clusterIP: None, selector: { app: far }, ports: [{ name: http, port: 8080 }] }
`;

t.test('names of a captured pod', async (t) => {
  const app = await startMeshApp(t, (objects) => objects + HEADLESS);
  const lookUp = async (pod: string, name: string): Promise<string> => {
    const namespace = pod === 'plain' ? 'outside' : 'inside';
    const { stdout } = await app.lab.exec(namespace, pod, ['getent', 'ahostsv4', name]);
    return stdout.split(/\s/u)[0] ?? '';
  };
  const count = async (metric: string): Promise<number> => {
    const { nodes } = await app.lab.state();
    const netns = nodes.find(({ name }) => name === 'node-1')?.netns ?? '';
    const { stdout } = await run('ip', ['netns', 'exec', netns, 'curl', '-sS', '-m', '10', 'http://127.0.0.1:15020/metrics']);
    const lines = stdout.split('\n').filter((line) => line.startsWith(`${metric}{`));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  };
  const far = await app.ip('far');

  await t.test('Services, by every form of their name, without the DNS server', async (t) => {
    const service = JSON.parse(await app.lab.must(['get', 'service', 'far', '-n', 'inside', '-o', 'json'])) as {
      spec: { clusterIP: string };
    };
    for (const name of ['far', 'far.inside', 'far.inside.svc.cluster.local'])
      t.equal(await lookUp('one', name), service.spec.clusterIP, name);
    t.equal(await lookUp('one', 'peers'), far, 'a headless one is its pods');
    t.equal(await lookUp('one', 'far.peers'), far, 'one of them');
    t.ok((await count('istio_dns_requests_total')) >= 5);
    t.equal(await count('istio_dns_upstream_requests_total'), 0);
  });

  await t.test('other names, from the DNS server that the pod has', async (t) => {
    const byAddress = `${far.replaceAll('.', '-')}.inside.pod.cluster.local`;
    t.equal(await lookUp('one', byAddress), far);
    t.ok((await count('istio_dns_upstream_requests_total')) >= 1);
    t.equal(await count('istio_dns_upstream_failures_total'), 0);
    t.equal(await lookUp('one', 'nobody.inside'), '');
  });

  await t.test('pods outside of the mesh ask for themselves', async (t) => {
    const before = await count('istio_dns_requests_total');
    t.equal(await lookUp('plain', 'peers.inside'), far);
    t.equal(await count('istio_dns_requests_total'), before);
  });
});
