import { availableParallelism } from 'node:os';
import t from 'tap';
import { loadConfig } from '../../ztunnel/config.ts';
import { headersOf } from '../../ztunnel/proxy-config.ts';

const config = (env: Record<string, string>, fileExists = false) =>
  loadConfig((name) => env[name], { fileExists: () => fileExists });

t.test('defaults are Istio’s', async (t) => {
  t.match(config({}), {
    xdsAddress: 'https://localhost:15012',
    caAddress: 'https://localhost:15012',
    clusterId: 'Kubernetes',
    packetMark: 1337,
    inpodUds: '/var/run/ztunnel/ztunnel.sock',
    originalSource: 'try',
    sameNode: 'relay',
    keepalive: { time: 180_000, interval: 180_000, retries: 9 },
    // There 100 (docs/decisions/0017).
    poolMaxStreams: 200,
    drainDeadline: 5000,
    ports: { admin: 15_000, metrics: 15_020, readiness: 15_021 },
  });
});

t.test('where the control plane is', async (t) => {
  t.equal(config({ KUBERNETES_SERVICE_HOST: '10.96.0.1' }).xdsAddress, 'https://istiod.istio-system.svc:15012');
  t.equal(config({ XDS_ADDRESS: 'istiod:15012' }).xdsAddress, 'https://istiod:15012');
  t.equal(config({ XDS_ADDRESS: '' }).xdsAddress, '', 'empty: none');
  t.equal(config({}, true).authToken, './var/run/secrets/tokens/istio-token');
});

t.test('how many threads serve connections', async (t) => {
  const cores = availableParallelism();
  const threads = (value: string) => config({ ZTUNNEL_WORKER_THREADS: value }).workerThreads;
  t.equal(config({}).workerThreads, Math.max(1, Math.floor(availableParallelism() / 2)), 'half of the cores');
  t.equal(threads('50%'), Math.max(1, Math.floor(cores / 2)));
  t.equal(threads('3'), 3);
  t.equal(threads('0'), cores);
  t.equal(threads('100%'), cores);
  t.equal(threads('1%'), 1);
  t.equal(threads('main'), 0);
  for (const wrong of ['-1', '0%', '101%', '1.5', '257', 'all'])
    t.throws(() => threads(wrong), { code: 'invalid_config', message: /ZTUNNEL_WORKER_THREADS/u });
});

t.test('memory: as told, else most of what the kernel allows', async (t) => {
  const limited = (env: Record<string, string>) => loadConfig((name) => env[name], { memoryLimit: 1000 }).maxMemory;
  t.equal(config({}).maxMemory, 0, 'no limit, no budget');
  t.equal(limited({}), 800);
  t.equal(limited({ MAX_MEMORY: '2Ki' }), 2048);
  t.equal(limited({ MAX_MEMORY: '0' }), 0, 'switched off');
});

t.test('no more threads than the container may use processors, and as many as it asks for', async (t) => {
  const cores = availableParallelism();
  const threads = (env: Record<string, string>) => config(env).workerThreads;
  const whole = threads({});
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: String(cores) }), whole, 'a limit that is none');
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: String(cores + 1) }), whole);
  t.throws(() => threads({ ZTUNNEL_CPU_LIMIT: '0' }), { message: /ZTUNNEL_CPU_LIMIT="0"/u });
  t.throws(() => threads({ ZTUNNEL_RESOURCE_CPU_LIMIT: 'half' }), { message: /ZTUNNEL_RESOURCE_CPU_LIMIT="half"/u });
  if (cores < 2) return t.comment('with one core there is nothing to limit');
  const most = String(cores - 1);
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: most }), cores - 1, 'all of the limit, not half of it');
  const [all, request] = [String(cores), { ZTUNNEL_RESOURCE_CPU_REQUEST: String(cores) }];
  t.equal(threads({ ZTUNNEL_RESOURCE_CPU_LIMIT: '1', ...request }), cores, 'by its other name');
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: all, ZTUNNEL_RESOURCE_CPU_LIMIT: '1', ...request }), whole, 'the first name counts');
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: '1', ...request }), cores, 'at least the request');
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: '1', ZTUNNEL_RESOURCE_CPU_REQUEST: String(cores * 4) }), cores, 'of what there is');
  t.equal(threads({ ZTUNNEL_CPU_LIMIT: '1', ZTUNNEL_WORKER_THREADS: '7' }), 7, 'a number of threads is meant as it is');
});

t.test('derived values', async (t) => {
  t.equal(config({ TERMINATION_GRACE_PERIOD_SECONDS: '30' }).drainDeadline, 25_000);
  t.equal(config({ TERMINATION_GRACE_PERIOD_SECONDS: '8' }).drainDeadline, 7000);
  t.equal(config({ TERMINATION_GRACE_PERIOD_SECONDS: '8', CONNECTION_TERMINATION_DEADLINE: '2s' }).drainDeadline, 2000);
  t.equal(config({ ENABLE_ORIG_SRC: 'false' }).originalSource, 'no');
  t.equal(config({ KEEPALIVE_ENABLED: 'false' }).keepalive, undefined);
  t.equal(config({ CLUSTER_ID: 'a', ISTIO_META_CLUSTER_ID: 'b' }).clusterId, 'b');
});

t.test('all faults are told at once', async (t) => {
  t.throws(() => config({ PACKET_MARK: '0', SAME_NODE: 'both', LOCAL_XDS_PATH: 'x', LOCAL_XDS: '{}' }), {
    code: 'invalid_config',
    message: /PACKET_MARK="0".*\n.*SAME_NODE="both".*\nLOCAL_XDS_PATH and LOCAL_XDS are both set/u,
  });
});

t.test('state of its own may be beside a control plane’s', async (t) => {
  t.match(config({ LOCAL_XDS_PATH: 'x' }), { localXdsPath: 'x', localXds: undefined, xdsAddress: 'https://localhost:15012' });
  t.match(config({ LOCAL_XDS: 'workloads: []', XDS_ADDRESS: '' }), { localXdsPath: undefined, localXds: 'workloads: []' });
});

t.test('ProxyConfig: the mesh file, over it PROXY_CONFIG, over both the environment', async (t) => {
  const mesh = `
defaultConfig:
  discoveryAddress: istiod.mesh:15012
  statsPort: 16020
  proxyAdminPort: 16000
  proxyMetadata: { ISTIO_META_CLUSTER_ID: far, ISTIO_META_NETWORK: n1, A: mesh, B: mesh }
`;
  const proxy = 'discoveryAddress: istiod.own:15012\nconcurrency: 3\nproxyMetadata: {A: own}';
  const load = (env: Record<string, string>) => loadConfig((name) => env[name], { mesh, metadata: { NETWORK: 'n2' } });
  t.match(load({}), { xdsAddress: 'https://istiod.mesh:15012', ports: { metrics: 16_020, admin: 16_000 }, clusterId: 'far' });
  const own = load({ PROXY_CONFIG: proxy });
  t.match(own, { xdsAddress: 'https://istiod.own:15012', workerThreads: 3, ports: { metrics: 16_020 } });
  t.match(own.metadata, { A: 'own', B: 'mesh', CLUSTER_ID: 'far', NETWORK: 'n2' });
  t.match(
    load({ PROXY_CONFIG: proxy, XDS_ADDRESS: 'x:1', ZTUNNEL_WORKER_THREADS: '1', STATS_PORT: '1', ISTIO_META_CLUSTER_ID: 'c' }),
    {
      xdsAddress: 'https://x:1',
      workerThreads: 1,
      ports: { metrics: 1 },
      clusterId: 'c',
    },
  );
  t.throws(() => load({ PROXY_CONFIG: 'concurrency: many' }), { message: /concurrency: "many" is no whole number/u });
  t.throws(() => load({ PROXY_CONFIG: '{' }), { message: /PROXY_CONFIG: /u });
});

t.test('other names of the control plane, headers of requests', async (t) => {
  const env = { XDS_HEADER_Foo: 'bar', CA_HEADER_BAZ: 'qux', XDS_HEADER_: 'none' };
  t.strictSame(headersOf(env, 'XDS_HEADER_'), { foo: 'bar' });
  const loaded = loadConfig((name) => ({ ALT_XDS_HOSTNAME: 'a', ALT_CA_HOSTNAME: 'b' })[name], {
    xdsHeaders: headersOf(env, 'XDS_HEADER_'),
    caHeaders: headersOf(env, 'CA_HEADER_'),
  });
  t.match(loaded, { altXdsHostname: 'a', altCaHostname: 'b', xdsHeaders: { foo: 'bar' }, caHeaders: { baz: 'qux' } });
});

t.test('how long a silent peer is waited for', async (t) => {
  t.equal(config({}).userTimeout, undefined);
  t.equal(
    config({ USER_TIMEOUT_ENABLED: 'true', KEEPALIVE_TIME: '10s', KEEPALIVE_INTERVAL: '5s', KEEPALIVE_RETRIES: '2' }).userTimeout,
    20_000,
  );
});

t.test('the DNS proxy', async (t) => {
  t.match(config({}), {
    dnsProxy: true,
    dnsProxyAddress: { ip: 'localhost', port: 15_053 },
    preferredServiceNamespace: undefined,
  });
  t.equal(config({ ISTIO_META_DNS_CAPTURE: 'TRUE' }).dnsProxy, true);
  for (const off of ['false', 'no', '0']) t.equal(config({ ISTIO_META_DNS_CAPTURE: off }).dnsProxy, false);
  t.equal(config({ PROXY_CONFIG: 'proxyMetadata: {DNS_CAPTURE: "false"}' }).dnsProxy, false);
  const at = (text: string) => config({ ISTIO_META_DNS_PROXY_ADDR: text }).dnsProxyAddress;
  t.same(at('localhost:53'), { ip: 'localhost', port: 53 });
  t.same(at('127.0.0.2:15053'), { ip: '127.0.0.2', port: 15_053 });
  t.same(at('[::1]:15053'), { ip: '::1', port: 15_053 });
  for (const wrong of ['dns:53', 'localhost', '127.0.0.1:0', '127.0.0.1:70000', '::1:53'])
    t.throws(() => at(wrong), { message: /ISTIO_META_DNS_PROXY_ADDR=".*": neither localhost:PORT nor IP:PORT/u });
  t.equal(config({ PREFERED_SERVICE_NAMESPACE: 'own' }).preferredServiceNamespace, 'own');
});

t.test('what is served, and with which keys', async (t) => {
  t.match(config({}), { proxy: true, postQuantum: false });
  t.match(config({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web-1/web' }), {
    dedicated: { namespace: 'shop', name: 'web-1', serviceAccount: 'web' },
    packetMark: undefined,
  });
  t.equal(config({}).dedicated, undefined);
  t.throws(() => config({ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'shop/web' }), {
    message: /give NAMESPACE\/NAME\/SERVICE_ACCOUNT/u,
  });
  t.match(config({ ENABLE_PROXY: 'false', ZTUNNEL_WORKER_THREADS: '4' }), { proxy: false, dnsProxy: true, workerThreads: 0 });
  t.match(config({ COMPLIANCE_POLICY: 'pqc' }), { postQuantum: true });
  t.throws(() => config({ COMPLIANCE_POLICY: 'fips' }), { message: /COMPLIANCE_POLICY="fips": not one of pqc, none/u });
  t.throws(() => config({ ENABLE_PROXY: 'false', ISTIO_META_DNS_CAPTURE: 'false' }), { message: /there is nothing to do/u });
  t.throws(() => config({ FAKE_CA: 'true' }), { message: /FAKE_CA=true: .*give CA_ADDRESS/u });
  t.match(config({ FAKE_CA: 'false' }), { proxy: true });
});

t.test('addresses that cannot be dialled are told at the start', async (t) => {
  t.throws(() => config({ XDS_ADDRESS: 'istiod', CA_ADDRESS: 'ftp://istiod:15012' }), {
    message: /XDS_ADDRESS="https:\/\/istiod": not an address.*\nCA_ADDRESS="ftp:\/\/istiod:15012": not an address/u,
  });
  t.match(config({ XDS_ADDRESS: 'istiod.example:15010', CA_ADDRESS: '' }), {
    xdsAddress: 'https://istiod.example:15010',
    caAddress: '',
  });
});

t.test('trust domains: the mesh file’s, unless the environment says otherwise; names are checked', async (t) => {
  const mesh = 'trustDomain: example.com\ntrustDomainAliases: [old.example.com, cluster.local]\n';
  const load = (env: Record<string, string>) => loadConfig((name) => env[name], { mesh });
  t.match(load({}), { trustDomain: 'example.com', trustDomainAliases: ['old.example.com', 'cluster.local'] });
  const own = load({ TRUST_DOMAIN: 'mine', TRUST_DOMAIN_ALIASES: 'a.example, b.example' });
  t.match(own, { trustDomain: 'mine', trustDomainAliases: ['a.example', 'b.example'] });
  t.match(
    loadConfig(() => undefined),
    { trustDomain: 'cluster.local', trustDomainAliases: [] },
  );
  t.throws(() => load({ TRUST_DOMAIN_ALIASES: 'a/b' }), { message: /TRUST_DOMAIN_ALIASES: "a\/b" is not a trust domain/u });
  const wrong = 'trustDomainAliases: [1]\n';
  t.throws(() => loadConfig(() => undefined, { mesh: wrong }), { message: /trustDomainAliases: \[1\] is no list of texts/u });
});
