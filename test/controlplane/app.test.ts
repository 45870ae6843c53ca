// The running control plane as proxies meet it: delta and SotW over real gRPC, identities, debug pages.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { credentials, status } from '@grpc/grpc-js';
import t from 'tap';
import { TYPE } from '../../controlplane/serve/types.ts';
import { deltaClient, podYaml, runningApp, SERVICE_YAML, sotwClient, ztunnelNode } from './running-app.ts';

const WEB = 'default/web.default.svc.cluster.local';
const POD = (name: string): string => `Kubernetes//Pod/default/${name}`;
const names = (response: { resources: { name: string }[] }): string[] => response.resources.map(({ name }) => name).sort();

interface Syncz {
  sequence: number;
  proxies: {
    proxy: string;
    identity?: string;
    types: Record<string, { state: string; sent: number; nacked?: { reason: string } }>;
  }[];
}

t.test('delta: everything, then only what changes', async (t) => {
  const app = await runningApp(t, { 'web.yaml': SERVICE_YAML, 'a.yaml': podYaml('a', '10.0.0.1') });
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const first = await client.next();
  t.same(names(first), [POD('a'), WEB]);
  t.ok(first.resources.every(({ version }) => version !== ''));
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce });

  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  const second = await client.next();
  t.same(names(second), [POD('b')], 'one new pod, one resource');
  client.send({ typeUrl: TYPE.address, responseNonce: second.nonce });

  await app.put('a.yaml', undefined);
  const third = await client.next();
  t.same(names(third), []);
  t.same(third.removedResources, [POD('a')]);
  client.send({ typeUrl: TYPE.address, responseNonce: third.nonce });
  t.ok(await client.quiet(), 'nothing more without a change');
  const { proxies, sequence } = await app.admin<Syncz>('/debug/syncz');
  t.match(proxies, [{ proxy: 'ztunnel-1.culvert-system', types: { wds: { state: 'SYNCED', acked: sequence } } }]);
});

t.test('delta: a refused response is not sent again until something changes', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const first = await client.next();
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce, errorDetail: { code: 3, message: 'no such thing' } });
  t.ok(await client.quiet());
  const { proxies } = await app.admin<Syncz>('/debug/syncz');
  t.match(proxies[0]?.types['wds'], { state: 'NACKED', nacked: { reason: 'no such thing' } });
  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  t.same(names(await client.next()), [POD('b')]);
});

t.test('delta: no more than one response waits for an answer', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const first = await client.next();
  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  t.ok(await client.quiet(), 'the slow one is left alone');
  const other = deltaClient(t, { port: app.ports.plaintext });
  other.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  t.equal((await other.next()).resources.length, 2, 'others are served');
  await app.put('c.yaml', podYaml('c', '10.0.0.3'));
  t.ok(await client.quiet());
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce });
  t.same(names(await client.next()), [POD('b'), POD('c')], 'after its answer it gets all that it missed at once');
});

t.test('delta: a reconnecting proxy gets only what it lacks', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1'), 'b.yaml': podYaml('b', '10.0.0.2') });
  const before = deltaClient(t, { port: app.ports.plaintext });
  before.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const { resources } = await before.next();
  before.close();
  const versions = Object.fromEntries(resources.map(({ name, version }) => [name, version]));
  const client = deltaClient(t, { port: app.ports.plaintext });
  const initialResourceVersions = { ...versions, [POD('b')]: 'older', [POD('gone')]: 'x' };
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address, initialResourceVersions });
  const response = await client.next();
  t.same(names(response), [POD('b')]);
  t.same(response.removedResources, [POD('gone')]);
});

t.test('delta: on demand by address, host name and UID', async (t) => {
  const app = await runningApp(t, {
    'web.yaml': SERVICE_YAML,
    'a.yaml': podYaml('a', '10.0.0.1'),
    'b.yaml': podYaml('b', '10.0.0.2', {}),
  });
  const client = deltaClient(t, { port: app.ports.plaintext });
  const ask = async (...resourceNamesSubscribe: string[]): Promise<{ names: string[]; removed: string[] }> => {
    client.send({ node: ztunnelNode({ NODE_NAME: 'elsewhere' }), typeUrl: TYPE.address, resourceNamesSubscribe });
    const response = await client.next();
    client.send({ typeUrl: TYPE.address, responseNonce: response.nonce });
    return { names: names(response), removed: response.removedResources };
  };
  t.same(await ask('/10.0.0.2'), { names: [POD('b')], removed: [] });
  t.same(await ask('/10.96.0.9'), { names: [POD('a'), WEB], removed: [] }, 'a service brings its workloads');
  t.same(await ask('/10.9.9.9'), { names: [], removed: ['/10.9.9.9'] }, 'no such thing');
  await app.put('c.yaml', podYaml('c', '10.0.0.3'));
  const pushed = await client.next();
  t.same(names(pushed), [POD('c')], 'a new endpoint of a subscribed service');
  client.send({ typeUrl: TYPE.address, responseNonce: pushed.nonce, resourceNamesUnsubscribe: ['/10.96.0.9'] });
  await app.put('b.yaml', podYaml('b', '10.0.0.4', {}));
  const last = await client.next();
  t.same(names(last), [], 'the address that was asked for is nobody now');
});

t.test('delta on demand: what is held by one name stays when another name of it is taken back and asked for again', async (t) => {
  const app = await runningApp(t, { 'web.yaml': SERVICE_YAML, 'a.yaml': podYaml('a', '10.0.0.1') });
  const client = deltaClient(t, { port: app.ports.plaintext });
  const node = ztunnelNode({ NODE_NAME: 'elsewhere' });
  const say = async (resourceNamesSubscribe: string[], resourceNamesUnsubscribe: string[] = []) => {
    client.send({ node, typeUrl: TYPE.address, resourceNamesSubscribe, resourceNamesUnsubscribe });
    const response = await client.next();
    client.send({ typeUrl: TYPE.address, responseNonce: response.nonce });
    return response;
  };
  t.same(names(await say(['/10.96.0.9'])), [POD('a'), WEB]);
  t.same((await say(['culvert/nothing'], [WEB])).removedResources, ['culvert/nothing']);
  const again = await say([WEB]);
  t.ok(names(again).includes(WEB));
  t.same(again.removedResources, []);
});

t.test('delta on demand: pods of the own node come unasked, as a ztunnel that waits for its own pods cannot ask', async (t) => {
  const app = await runningApp(t, {
    'a.yaml': podYaml('a', '10.0.0.1'),
    'b.yaml': podYaml('b', '10.0.0.2').replace('node-1', 'node-2'),
  });
  const client = deltaClient(t, { port: app.ports.plaintext });
  const nothing = { resourceNamesSubscribe: ['*'], resourceNamesUnsubscribe: ['*'] };
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address, ...nothing });
  const first = await client.next();
  t.same(names(first), [POD('a')]);
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce });
  await app.put('c.yaml', podYaml('c', '10.0.0.3'));
  const second = await client.next();
  t.same(names(second), [POD('c')]);
  client.send({ typeUrl: TYPE.address, responseNonce: second.nonce });
  await app.put('a.yaml', undefined);
  t.same((await client.next()).removedResources, [POD('a')]);
});

t.test('SotW: the whole state each time it changes', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const client = sotwClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const first = await client.next();
  t.equal(first.resources.length, 1);
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce, versionInfo: first.versionInfo });
  t.ok(await client.quiet());
  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  const second = await client.next();
  t.equal(second.resources.length, 2);
  t.not(second.versionInfo, first.versionInfo);
  client.send({ typeUrl: TYPE.endpoints });
  t.ok(await client.quiet(), 'no names of a named type: no answer');
});

t.test('the TLS port asks who calls and checks the node', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const roots = await readFile(path.join(app.stateDir, 'root-cert.pem'));
  const { token } = await app.admin<{ token: string }>('/token', {
    namespace: 'culvert-system',
    serviceAccount: 'ztunnel',
    podName: 'ztunnel-1',
    podUid: 'u1',
    nodeName: 'node-1',
  });
  const tls = { port: app.ports.tls, credentials: credentials.createSsl(roots) };

  const good = deltaClient(t, { ...tls, token });
  good.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  t.equal((await good.next()).resources.length, 1);
  const { proxies } = await app.admin<Syncz>('/debug/syncz');
  t.equal(proxies[0]?.identity, 'spiffe://cluster.local/ns/culvert-system/sa/ztunnel');

  const nobody = deltaClient(t, tls);
  nobody.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  t.equal((await nobody.ended).code, status.UNAUTHENTICATED);

  const elsewhere = deltaClient(t, { ...tls, token });
  elsewhere.send({ node: ztunnelNode({ NAMESPACE: 'default' }), typeUrl: TYPE.address });
  t.match(await elsewhere.ended, { code: status.PERMISSION_DENIED, details: /not of the namespace/u });

  const someone = deltaClient(t, { ...tls, token });
  someone.send({ node: ztunnelNode({ SERVICE_ACCOUNT: 'other' }), typeUrl: TYPE.address });
  t.match(await someone.ended, { code: status.PERMISSION_DENIED, details: /not of the service account/u });
});

t.test('a stream that makes no sense is ended with the reason', async (t) => {
  const app = await runningApp(t);
  const cases: [string, Parameters<ReturnType<typeof deltaClient>['send']>[0], RegExp][] = [
    ['no node', { typeUrl: TYPE.address }, /no node.id/u],
    ['a strange node', { node: { id: 'x~y' }, typeUrl: TYPE.address }, /is not KIND~IP/u],
    ['no type', { node: ztunnelNode() }, /no type_url/u],
  ];
  for (const [what, request, details] of cases) {
    const client = deltaClient(t, { port: app.ports.plaintext });
    client.send(request);
    t.match(await client.ended, { code: status.INVALID_ARGUMENT, details }, what);
  }
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: 'type.googleapis.com/unknown.Type' });
  t.same(names(await client.next()), [], 'a type that is not served is empty, so that no proxy waits for it');
});

t.test('bad input: told once with file, object, field and reason; the rest serves', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1'), 'web.yaml': SERVICE_YAML });
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  const first = await client.next();
  client.send({ typeUrl: TYPE.address, responseNonce: first.nonce });
  await app.put('web.yaml', SERVICE_YAML.replace('targetPort', 'targetport'));
  await app.put(
    'route.yaml',
    'apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{group: "", kind: Service, name: none}]}',
  );
  await app.put('b.yaml', podYaml('b', '10.0.0.2'));
  t.same(names(await client.next()), [POD('b')], 'the service keeps its last good state');
  const faults = await app.admin<{ line: string }[]>('/debug/faults');
  const lines = faults.map(({ line }) => line.replace(/^\S*\//u, '')).sort();
  t.same(lines, [
    'route.yaml:1: HTTPRoute/default/r: spec.parentRefs[0]: Service default/none does not exist',
    'web.yaml:4: Service/default/web: spec.ports[0].targetport: unknown field',
  ]);
  for (const line of lines) t.equal(app.lines.filter((logged) => logged.includes(line)).length, 1, `logged once: ${line}`);
});

t.test('a second control plane on the same port does not start', async (t) => {
  const app = await runningApp(t);
  await t.rejects(runningApp(t, {}, { XDS_PORT: String(app.ports.plaintext) }), {
    code: 'invalid_config',
    message: /cannot listen on 127\.0\.0\.1:/u,
  });
});

t.test('operator pages', async (t) => {
  const app = await runningApp(t, { 'a.yaml': podYaml('a', '10.0.0.1') });
  const page = async (name: string): Promise<Response> => fetch(`http://127.0.0.1:${app.ports.monitoring}${name}`);
  t.equal((await page('/ready')).status, 200);
  const client = deltaClient(t, { port: app.ports.plaintext });
  client.send({ node: ztunnelNode(), typeUrl: TYPE.address });
  await client.next();
  t.match(await (await page('/metrics')).text(), /pilot_xds 1\n[\s\S]*pilot_xds_pushes\{type="wds"\} 1/u);
  const dump = (await (await page('/debug/config_dump?proxyID=ztunnel-1.culvert-system')).json()) as { configs: unknown };
  t.match(dump.configs, [{ typeUrl: TYPE.address, resources: [{ name: POD('a'), resource: { workload: { name: 'a' } } }] }]);
  t.equal((await page('/debug/config_dump?proxyID=x')).status, 404);
});
