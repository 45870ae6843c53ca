// The control plane's environment: defaults, and every fault at once.
import t from 'tap';
import { loadConfig } from '../../controlplane/config.ts';

const REQUIRED: Record<string, string> = { OBJECT_DIRS: '/a:/b', STATUS_DIR: '/s', OBJECT_WRITE_DIR: '/b', STATE_DIR: '/t' };

t.test('defaults', async (t) => {
  t.match(
    loadConfig((name) => REQUIRED[name]),
    {
      objectDirs: ['/a', '/b'],
      listenAddress: '::',
      ports: { plaintext: 15010, tls: 15012, monitoring: 15014 },
      settings: {
        trustDomain: 'cluster.local',
        clusterId: 'Kubernetes',
        clusterDomain: 'cluster.local',
        network: '',
        rootNamespace: 'culvert-system',
      },
      debounce: { after: 100, max: 10_000 },
    },
  );
});

t.test('faults are told all at once', async (t) => {
  const env: Record<string, string> = { XDS_PORT: 'x', PILOT_DEBOUNCE_AFTER: 'soon' };
  const error = t.throws(() => loadConfig((name) => env[name])) as Error;
  for (const name of [
    'OBJECT_DIRS',
    'STATUS_DIR',
    'OBJECT_WRITE_DIR',
    'STATE_DIR',
    'XDS_PORT="x"',
    'PILOT_DEBOUNCE_AFTER="soon"',
  ])
    t.match(error.message, name);
});
