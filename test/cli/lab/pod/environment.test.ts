import fc from 'fast-check';
import t from 'tap';
import type { Pod } from '#shared/kube/kinds.ts';
import { containerCommand, containerEnv, expand, isCulvertImage } from '../../../../cli/lab/pod/environment.ts';
import type { Container, EnvironmentContext } from '../../../../cli/lab/pod/environment.ts';

const pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'one', namespace: 'shop', labels: { app: 'web' } },
  spec: { containers: [] },
} as Pod;
const context: EnvironmentContext = {
  pod,
  place: { nodeName: 'node-1', hostIP: '172.30.0.11', podIP: '10.244.1.2' },
  configMap: (name) =>
    name === 'settings'
      ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'shop' }, data: { COLOUR: 'red' } }
      : undefined,
};
const container = (fields: object): Container => ({ name: 'main', ...fields });

t.test('fields of the pod, ConfigMaps and references to earlier variables', async (t) => {
  const env = containerEnv(
    container({
      envFrom: [{ prefix: 'S_', configMapRef: { name: 'settings' } }],
      env: [
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'APP', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
        { name: 'ACCOUNT', valueFrom: { fieldRef: { fieldPath: 'spec.serviceAccountName' } } },
        { name: 'KEY', valueFrom: { configMapKeyRef: { name: 'settings', key: 'COLOUR' } } },
        { name: 'URL', value: 'http://$(IP):$(PORT)/$$(IP)' },
      ],
    }),
    { PATH: '/bin' },
    context,
  );
  t.same(env, {
    PATH: '/bin',
    HOSTNAME: 'one',
    S_COLOUR: 'red',
    IP: '10.244.1.2',
    APP: 'web',
    ACCOUNT: 'default',
    KEY: 'red',
    URL: 'http://10.244.1.2:$(PORT)/$(IP)',
  });
});

t.test('faults name container, field and reason', async (t) => {
  const env = (variable: object) => () => containerEnv(container({ env: [variable] }), {}, context);
  t.throws(
    env({ name: 'A', valueFrom: { fieldRef: { fieldPath: 'metadata.nothing' } } }),
    /container main: env\[0\]: no such field: metadata\.nothing/u,
  );
  t.throws(env({ name: 'A', valueFrom: { configMapKeyRef: { name: 'gone', key: 'x' } } }), /ConfigMap gone has no key x/u);
  t.throws(env({ name: 'A', valueFrom: { secretKeyRef: { name: 'gone', key: 'x' } } }), /valueFrom supports/u);
  t.same(env({ name: 'A', valueFrom: { configMapKeyRef: { name: 'gone', key: 'x', optional: true } } })(), { HOSTNAME: 'one' });
});

t.test('the command: its own, that of our image, or a fault that says what to do', async (t) => {
  const own = (args: readonly string[]) => (args[0] === 'waypoint' ? ['node', 'waypoint.ts'] : undefined);
  t.same(containerCommand(container({ command: ['sh', '-c'], args: ['$(A)'] }), { A: 'x' }, own), ['sh', '-c', 'x']);
  t.same(containerCommand(container({ image: 'registry.example/culvert:1.2', args: ['waypoint'] }), {}, own), [
    'node',
    'waypoint.ts',
  ]);
  t.throws(() => containerCommand(container({ image: 'culvert', args: ['else'] }), {}, own), /use args \[waypoint\]/u);
  t.throws(() => containerCommand(container({ image: 'busybox' }), {}, own), /name one in command/u);
  t.notOk(isCulvertImage('notculvert'));
});

t.test('a text without references stays as it is', async () => {
  fc.assert(fc.property(fc.string(), (text) => text.includes('$(') || expand(text, { A: 'b' }) === text));
});
