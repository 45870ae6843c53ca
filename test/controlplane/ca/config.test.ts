import t from 'tap';
import { EnvReader } from '#shared/env.ts';
import { readCaConfig } from '../../../controlplane/ca/config.ts';

function read(env: Record<string, string>) {
  const reader = new EnvReader((name) => env[name]);
  return { config: readCaConfig(reader), faults: reader.faults };
}

t.test('the public address is a name of the server certificate', async (t) => {
  t.equal(read({ PUBLIC_ADDRESS: 'https://172.30.0.1:15012' }).config.serverNames[0], '172.30.0.1');
  t.equal(read({ PUBLIC_ADDRESS: 'https://[fd00::1]:15012' }).config.serverNames[0], 'fd00::1');
  const { serverNames } = read({ PUBLIC_ADDRESS: 'https://localhost:15012' }).config;
  t.equal(serverNames.filter((name) => name === 'localhost').length, 1);
  t.ok(serverNames.includes('istiod.istio-system.svc'));
});

t.test('defaults and overrides', async (t) => {
  const { config, faults } = read({ ROOT_NAMESPACE: 'istio-system' });
  t.same(config.trustedNodeAccounts, ['istio-system/ztunnel']);
  t.same([config.defaultTtl, config.maxTtl, config.cacertsDir], [86_400_000, 90 * 86_400_000, undefined]);
  t.same(faults, []);
  const own = read({ CA_TRUSTED_NODE_ACCOUNTS: 'a/b, c/d', DEFAULT_WORKLOAD_CERT_TTL: '1h', ROOT_CA_DIR: '/etc/cacerts' }).config;
  t.same([own.trustedNodeAccounts, own.defaultTtl, own.cacertsDir], [['a/b', 'c/d'], 3_600_000, '/etc/cacerts']);
});

t.test('every fault is told', async (t) => {
  const { faults } = read({ PUBLIC_ADDRESS: 'nowhere', CA_TRUSTED_NODE_ACCOUNTS: 'ztunnel', MAX_WORKLOAD_CERT_TTL: 'long' });
  t.match(faults.join('\n'), /PUBLIC_ADDRESS="nowhere"/u);
  t.match(faults.join('\n'), /CA_TRUSTED_NODE_ACCOUNTS: "ztunnel" is not NAMESPACE\/SERVICE-ACCOUNT/u);
  t.match(faults.join('\n'), /MAX_WORKLOAD_CERT_TTL="long"/u);
});
