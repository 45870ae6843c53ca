// The admin pages of a running ztunnel: what only its threads know, and what must not be shown.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

t.setTimeout(60_000);

t.test('profiles and heaps of the main thread and of workers, levels at run time, the dump', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { ZTUNNEL_WORKER_THREADS: '1', AUTH_TOKEN: 'secret-token' });
  await lab.apply(aWorkload('web'));
  const url = `http://127.0.0.1:${node.app.ports.admin}`;
  const get = async (path: string, method = 'GET') => {
    const answer = await fetch(`${url}${path}`, { method });
    return { status: answer.status, text: await answer.text() };
  };

  for (const thread of ['', '&worker=0']) {
    const profile = await get(`/debug/pprof/profile?seconds=1&frequency=1000${thread}`);
    t.equal(profile.status, 200);
    t.ok((JSON.parse(profile.text) as { samples: unknown[] }).samples.length > 0, `samples of ${thread || 'the main thread'}`);
  }
  const heap = await get('/debug/pprof/heap?worker=0');
  t.match(heap.text.slice(0, 200), /snapshot/u);
  t.match(await get('/debug/pprof/heap?worker=7'), { status: 404, text: /there is no such data worker/u });
  t.match(await get('/debug/pprof/profile?frequency=1001'), { status: 400 });
  t.match(await get('/debug/pprof/profile?seconds=0'), { status: 400 });

  t.match(await get('/logging?level=debug', 'POST'), { status: 200, text: 'current log level is debug\n' });
  t.match(await get('/logging?level=access=warn', 'POST'), { text: 'current log level is access=warn,debug\n' });
  t.match(await get('/logging?level=access', 'POST'), { status: 400 });
  t.match(await get('/logging?reset', 'POST'), { text: 'current log level is info\n' });
  t.match(await get('/logging'), { status: 405 });
  t.match(await get('/quitquitquit'), { status: 405 });

  const { text } = await get('/config_dump');
  const dump = JSON.parse(text) as Record<string, unknown>;
  t.match(Object.keys(dump).sort(), [
    'certificates',
    'config',
    'dataPlane',
    'policies',
    'services',
    'stagedServices',
    'staticConfig',
    'version',
    'workloadState',
    'workloads',
  ]);
  t.notMatch(text, /secret-token/u);
  t.match((await get('/')).text, /config_dump/u);
});

t.test('the dump: what a file gave beside what is in force, the configuration by Istio’s names, no credential', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-admin-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, 'state.yaml');
  const state = `workloads:
  - { uid: u1, name: web, namespace: shop, serviceAccount: web, node: node-1, workloadIps: [10.1.0.1], protocol: HBONE, services: {} }
services:
  - { name: cart, namespace: shop, hostname: cart.shop, vips: [/10.96.0.1], ports: { 80: 8080 } }
policies:
  - { name: no-9000, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: [[[destinationPorts: [9000]]]] }
`;
  await writeFile(file, state);
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', {
    LOCAL_XDS_PATH: file,
    ISTIO_META_ISTIO_VERSION: '1.99',
    POD_NAME: 'zt-1',
    POD_NAMESPACE: 'istio-system',
    SERVICE_ACCOUNT: 'ztunnel',
    CONNECTION_TERMINATION_DEADLINE: '1500ms',
    ENABLE_ORIG_SRC: 'false',
  });
  await lab.apply(aWorkload('more', { ips: ['10.1.0.7'] }));
  const answer = await fetch(`http://127.0.0.1:${node.app.ports.admin}/config_dump`);
  t.equal(answer.headers.get('content-type'), 'application/json');
  const dump = (await answer.json()) as { workloads: { name: string }[]; staticConfig: { workloads: { name: string }[] } };
  t.same(
    dump.workloads.map(({ name }) => name),
    ['web', 'more'],
  );
  t.same(
    dump.staticConfig.workloads.map(({ name }) => name),
    ['web'],
  );
  t.match(dump, {
    staticConfig: {
      workloads: [{ uid: 'u1', protocol: 'HBONE', workloadIps: ['10.1.0.1'], status: 'Healthy', networkMode: 'Standard' }],
      services: [{ hostname: 'cart.shop', vips: ['/10.96.0.1'], ports: { 80: 8080 } }],
      policies: [{ name: 'no-9000', scope: 'Namespace', action: 'Deny', rules: [[[{ destinationPorts: [9000] }]]] }],
    },
    stagedServices: {},
    version: { version: '1.99', istioVersion: '1.99', cryptoProvider: /^openssl /u, runtime: /^node / },
    config: {
      proxy: true,
      dnsProxy: true,
      localNode: 'node-1',
      clusterId: 'Kubernetes',
      clusterDomain: 'cluster.local',
      ztunnelIdentity: 'spiffe://cluster.local/ns/istio-system/sa/ztunnel',
      ztunnelWorkload: { name: 'zt-1', namespace: 'istio-system', serviceAccount: 'ztunnel' },
      inboundAddr: '[::]:15008',
      inboundPlaintextAddr: '[::]:15006',
      outboundAddr: '[::]:15001',
      dnsProxyAddr: 'localhost:15053',
      xdsAddress: null,
      windowSize: Number,
      connectionWindowSize: 16_777_216,
      frameSize: 1_048_576,
      poolMaxStreamsPerConn: 200,
      poolUnusedReleaseTimeout: { secs: 300, nanos: 0 },
      secretTtl: { secs: 86_400, nanos: 0 },
      selfTerminationDeadline: { secs: 1, nanos: 500_000_000 },
      requireOriginalSource: false,
      packetMark: 1337,
      socketConfig: {
        keepaliveEnabled: true,
        keepaliveTime: { secs: 180, nanos: 0 },
        keepaliveRetries: 9,
        userTimeoutEnabled: false,
      },
      ipv6Enabled: true,
      enableEnhancedBaggage: true,
      proxyMetadata: {},
      sameNode: 'relay',
    },
  });
});

t.test('ENABLE_PROXY=false: pods have names and no listeners of connections', async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1', { ENABLE_PROXY: 'false' });
  const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
  await lab.apply(web);
  const pod = await lab.captured(web);
  const listening = pod.netns.exec('ss', '-Hlntu');
  t.match(listening, /:15053\b/u);
  t.notMatch(listening, /:150(?:01|06|08)\b/u);
  t.ok(node.app.readiness.ready);
});

for (const backend of BACKENDS)
  for (const [threads, workers] of [
    ['main', 0],
    ['1', 1],
  ] as const)
    t.test(`the log and the dump name what serves connections: ${backend}, ${threads}`, async (t) => {
      const lab = new MeshLab(t);
      const node = await lab.node('node-1', { ZTUNNEL_WORKER_THREADS: threads, CULVERT_BACKEND: backend });
      t.match(
        node.log.find(({ message }) => message === 'started'),
        { backend, workers },
      );
      const answer = await fetch(`http://127.0.0.1:${node.app.ports.admin}/config_dump`);
      t.match(await answer.json(), { dataPlane: { backend, workers } });
    });
