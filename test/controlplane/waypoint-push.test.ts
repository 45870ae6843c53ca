// A waypoint from its Gateway to its configuration, and the client that ztunnels and waypoints use against the real server.
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { TYPE } from '../../controlplane/serve/types.ts';
import { AddressSchema } from '../../shared/gen/istio/workload/workload_pb.ts';
import { Logging } from '../../shared/telemetry/log.ts';
import { Metrics } from '../../shared/telemetry/metrics.ts';
import { DeltaClient } from '../../shared/xds/delta-client.ts';
import { resourceType } from '../../shared/xds/resource-type.ts';
import { deltaClient, podYaml, runningApp, SERVICE_YAML, ztunnelNode } from './running-app.ts';

const GATEWAY = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
`;
const BOUND = SERVICE_YAML.replace('namespace: default}', 'namespace: default, labels: {istio.io/use-waypoint: waypoint}}');

/** An overlay, as a kubelet writes it. */
async function overlay(stateDir: string, file: string, content: object): Promise<void> {
  const folder = path.join(stateDir, '..', 'status');
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, '.next'), JSON.stringify(content));
  await rename(path.join(folder, '.next'), path.join(folder, file));
}

t.test('from a Gateway to a waypoint that ztunnels use', async (t) => {
  const app = await runningApp(t, { 'web.yaml': BOUND, 'a.yaml': podYaml('a', '10.0.0.1'), 'gateway.yaml': GATEWAY });
  const pods = async (): Promise<unknown> =>
    (await app.admin<{ addresses: { name: string }[] }>('/debug/snapshot')).addresses.map(({ name }) => name);
  const ready = {
    phase: 'Running',
    podIP: '10.0.0.9',
    podIPs: [{ ip: '10.0.0.9' }],
    conditions: [{ type: 'Ready', status: 'True' }],
  };
  await overlay(app.stateDir, 'Service--default--waypoint.lab.yaml', { spec: { clusterIP: '10.96.0.20' } });
  await overlay(app.stateDir, 'Pod--default--waypoint-0.lab.yaml', { status: ready });
  for (let n = 0; n < 100 && !JSON.stringify(await pods()).includes('waypoint-0'); n++) await sleep(30);
  t.match(
    JSON.stringify(await pods()),
    'Kubernetes//Pod/default/waypoint-0',
    'the Deployment was generated, expanded, and its Pod runs',
  );

  const waypoint = deltaClient(t, { port: app.ports.plaintext });
  const node = { id: 'waypoint~10.0.0.9~waypoint-0.default~default.svc.cluster.local', metadata: { NAMESPACE: 'default' } };
  const ask = async (typeUrl: string, names: string[] = []): Promise<string[]> => {
    waypoint.send({ node, typeUrl, resourceNamesSubscribe: names });
    const response = await waypoint.next();
    t.equal(response.typeUrl, typeUrl);
    waypoint.send({ typeUrl, responseNonce: response.nonce });
    return response.resources.map(({ name }) => name);
  };
  const cluster = 'inbound-vip|80|http|web.default.svc.cluster.local';
  t.ok((await ask(TYPE.cluster)).includes(cluster));
  t.same(await ask(TYPE.endpoints, [cluster]), [cluster]);
  t.ok((await ask(TYPE.listener)).includes('main_internal'));
  t.same(await ask(TYPE.route, [cluster]), [cluster]);

  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  const pushed = await waypoint.next();
  t.match(pushed, { typeUrl: TYPE.endpoints, resources: [{ name: cluster }] }, 'a new endpoint is one resource of one type');

  const { addresses } = await app.admin<{ addresses: { name: string; resource: { service?: { waypoint?: unknown } } }[] }>(
    '/debug/snapshot',
  );
  const service = addresses.find(({ name }) => name === 'default/web.default.svc.cluster.local');
  t.match(service?.resource.service?.waypoint, { hboneMtlsPort: 15008 }, 'and ztunnels are sent to it');

  const ztunnel = deltaClient(t, { port: app.ports.plaintext });
  ztunnel.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const { nonce } = await ztunnel.next();
  ztunnel.send({ typeUrl: TYPE.address, responseNonce: nonce });
  await app.put('gateway.yaml', undefined);
  const gone = await ztunnel.next();
  t.match(gone.resources.map(({ name }) => name).join(' '), 'web.default.svc', 'ztunnels hear that it goes');
  waypoint.send({ typeUrl: TYPE.listener, resourceNamesSubscribe: ['main_internal'] });
  const kept = await waypoint.next();
  t.same([kept.resources.map(({ name }) => name), kept.removedResources], [['main_internal'], []], 'what it has until it ends');
});

t.test('the client of ztunnel against this server', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const held = new Map<string, unknown>();
  const log = new Logging({ level: 'off' }).scope('test');
  const client = new DeltaClient({
    endpoint: { address: `http://127.0.0.1:${app.ports.plaintext}`, rootCert: '' },
    node: ztunnelNode(),
    log,
    metrics: new Metrics(),
  });
  t.teardown(() => client.close());
  client.watchAll(
    resourceType(AddressSchema, {
      apply: ({ set, removed }) => {
        for (const { name, resource } of set) held.set(name, resource);
        for (const name of removed) held.delete(name);
        return set.filter(({ name }) => name.endsWith('/bad')).map(({ name }) => ({ name, reason: 'bad' }));
      },
    }),
  );
  client.start();
  const until = async (probe: () => boolean | Promise<boolean>, what: string): Promise<void> => {
    for (let n = 0; n < 150 && !(await probe()); n++) await sleep(20);
    t.ok(await probe(), what);
  };
  await until(() => held.size === 1, 'the first state');
  await app.put('bad.yaml', podYaml('bad', '10.0.0.2'));
  const status = async (): Promise<string> => JSON.stringify(await app.admin('/debug/syncz'));
  await until(async () => (await status()).includes('"NACKED"'), 'a refusal is seen');
  await app.put('bad.yaml', undefined);
  await until(() => held.size === 1, 'a removal arrives after a refusal');
  await until(async () => (await status()).includes('"SYNCED"'), 'and all is well again');
});
