// `culvert up` without the mesh: two nodes, pods, services, names, exec, apply, delete, and nothing left behind.
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { eventually, startLab } from '../harness/lab.ts';

const SERVER = `
import { createServer } from 'node:http';
createServer((request, response) => response.end(process.env.NAME + ' ' + request.socket.remoteAddress + '\\n')).listen(8080);
`;

const pod = (name: string, node: string, labels: string): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: ${labels} }
spec:
  nodeName: ${node}
  containers:
    - name: main
      image: node
      command: [node, server.mjs]
      env: [{ name: NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]
      ports: [{ name: web, containerPort: 8080 }]
      readinessProbe: { httpGet: { port: web } }
---`;

const OBJECTS = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
${pod('one', 'node-1', '{ app: web, only: one }')}
${pod('two', 'node-2', '{ app: web, only: two }')}
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: default }
spec:
  nodeName: node-1
  volumes: [{ name: scratch, emptyDir: {} }]
  containers:
    - { name: main, image: sh, command: [sleep, infinity], volumeMounts: [{ name: scratch, mountPath: /var/run/scratch }] }
    - { name: side, image: sh, command: [sh, -c, "echo from-side > /data/file; exec sleep infinity"], volumeMounts: [{ name: scratch, mountPath: /data }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: web }] }
---
apiVersion: v1
kind: Service
metadata: { name: one, namespace: shop }
spec: { selector: { only: one }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: nobody, namespace: shop }
spec: { selector: { only: nobody }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: headless, namespace: shop }
spec: { clusterIP: None, selector: { app: web }, ports: [{ port: 8080 }] }
`;

const curl = (url: string): string[] => ['curl', '-sS', '-m', '5', url];

async function netnsOf(id: string): Promise<string[]> {
  return (await readdir('/run/netns').catch(() => [])).filter((name) => name.startsWith(`culvert-${id}-`));
}

/** Processes that were started with this text in their command line or working folder. */
async function processesBelow(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/u.test(entry) || Number(entry) === process.pid) continue;
    const line = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (line.includes(text)) found.push(`${entry} ${line}`);
  }
  return found;
}

t.test('a lab of two nodes', async (t) => {
  const lab = await startLab(t, { files: { 'objects.yaml': OBJECTS, 'server.mjs': SERVER }, args: ['--no-mesh'] });

  await t.test('pods are on the nodes they name and have addresses of them', async (t) => {
    const pods = JSON.parse(await lab.must(['get', 'pods', '-A', '-o', 'json'])) as {
      items: { metadata: { name: string }; spec: { nodeName: string }; status: { podIP: string; phase: string } }[];
    };
    const byName = Object.fromEntries(pods.items.map((item) => [item.metadata.name, item]));
    t.match(byName['one'], { spec: { nodeName: 'node-1' }, status: { phase: 'Running', podIP: /^10\.244\.1\./u } });
    t.match(byName['two'], { spec: { nodeName: 'node-2' }, status: { phase: 'Running', podIP: /^10\.244\.2\./u } });
  });

  await t.test('a service reaches both pods, the client address is kept', async (t) => {
    const answers = await lab.exec('default', 'client', [
      'sh',
      '-c',
      'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -sS -m 5 http://web.shop/; done',
    ]);
    t.equal(answers.code, 0, answers.stderr);
    t.match(answers.stdout, /one/u);
    t.match(answers.stdout, /two/u);
    t.match(answers.stdout, /10\.244\.1\./u);
  });

  await t.test('a service on the same node, and a pod through its own service', async (t) => {
    t.match(await lab.exec('default', 'client', curl('http://one.shop.svc.cluster.local/')), { code: 0, stdout: /^one/u });
    t.match(await lab.exec('shop', 'one', curl('http://one.shop/')), { code: 0, stdout: /^one/u });
  });

  await t.test('names: short, headless, pod, and unknown ones', async (t) => {
    const ask = (name: string) => lab.exec('default', 'client', ['getent', 'ahostsv4', name]);
    t.match((await ask('web.shop')).stdout, /^10\.96\./u);
    t.match((await ask('headless.shop')).stdout, /10\.244\.1\.[\s\S]*10\.244\.2\.|10\.244\.2\.[\s\S]*10\.244\.1\./u);
    const ip = /(10\.244\.2\.\d+)/u.exec((await ask('headless.shop')).stdout)?.[1] ?? '';
    t.match((await ask(`${ip.replaceAll('.', '-')}.shop.pod.cluster.local`)).stdout, ip);
    t.equal((await ask('nothing.shop')).code, 2, 'an unknown name is unknown');
  });

  await t.test('a service without ready pods refuses at once', async (t) => {
    const outcome = await lab.exec('default', 'client', curl('http://nobody.shop/'));
    t.equal(outcome.code, 7, outcome.stderr);
  });

  await t.test('exec passes input, output and the exit code, and reaches every container', async (t) => {
    t.match(await lab.exec('default', 'client', ['sh', '-c', 'exit 42']), { code: 42 });
    const echoed = await lab.culvert(['exec', 'client', '--', 'cat'], { input: 'through\n' });
    t.match(echoed, { code: 0, stdout: 'through\n' });
    t.match(await lab.culvert(['exec', 'client', '-c', 'side', '--', 'cat', '/data/file']), { stdout: 'from-side\n' });
    t.match(
      await lab.exec('default', 'client', ['cat', '/var/run/scratch/file']),
      { stdout: 'from-side\n' },
      'the volume is shared',
    );
    t.notOk(existsSync('/var/run/scratch'), 'what a pod makes stays in the pod');
    t.match(await lab.culvert(['exec', 'nobody', '--', 'true']), { code: 1, stderr: /no pod nobody/u });
  });

  await t.test('apply, label and delete', async (t) => {
    const yaml = `apiVersion: v1\nkind: Pod\nmetadata: { name: once }\nspec: { restartPolicy: Never, containers: [{ name: c, image: sh, command: [sh, -c, "echo said; exit 3"] }] }\n`;
    t.equal(await lab.must(['apply', '-f', '-'], { input: yaml }), 'pod/once created\n');
    t.equal(await lab.must(['apply', '-f', '-'], { input: yaml.replace('exit 3', 'exit 4') }), 'pod/once configured\n');
    const ended = await eventually(
      () => lab.must(['get', 'pod', 'once', '-o', 'json']),
      (text) => text.includes('"exitCode": 4'),
    );
    t.match(JSON.parse(ended), { status: { phase: 'Failed' } });
    t.match(await lab.must(['logs', 'once']), 'said\n');
    t.equal(await lab.must(['label', 'namespace', 'shop', 'a=b']), 'namespace/shop labeled\n');
    t.match(await lab.culvert(['label', 'namespace', 'shop', 'a=c']), { code: 1, stderr: /already has a value \(b\)/u });
    t.equal(await lab.must(['label', 'namespace', 'shop', 'a-']), 'namespace/shop unlabeled\n');
    t.equal(await lab.must(['delete', 'pod', 'once']), 'pod/once deleted\n');
    t.equal(await lab.must(['delete', 'service', 'one', '-n', 'shop']), 'service/one deleted\n', 'also what the folder holds');
    t.match(await lab.culvert(['get', 'service', 'one', '-n', 'shop']), { code: 1, stderr: /there is no Service one/u });
  });

  await t.test('faults are told and leave the rest alone', async (t) => {
    const outcome = await lab.culvert(['apply', '-f', '-'], {
      input:
        'apiVersion: v1\nkind: Service\nmetadata: { name: good }\nspec: { ports: [{ port: 80 }] }\n---\napiVersion: v1\nkind: Service\nmetadata: { name: bad }\nspec: { prots: [] }\n',
    });
    t.equal(outcome.code, 1);
    t.match(outcome.stdout, 'service/good created');
    t.match(outcome.stderr, /standard input:\d+: Service\/default\/bad: spec\.prots/u);
    await lab.must(['apply', '-f', '-'], {
      input: 'apiVersion: v1\nkind: Pod\nmetadata: { name: imageless }\nspec: { containers: [{ name: c, image: busybox }] }\n',
    });
    const shown = await eventually(
      () => lab.must(['get', 'pods']),
      (text) => text.includes('not pulled'),
    );
    t.match(shown, /imageless.*image busybox is not pulled here/u);
  });

  await t.test('a killed container starts again', async (t) => {
    const before = (await lab.state()).pods.find(({ name }) => name === 'two')?.containers[0]?.process?.pid ?? 0;
    process.kill(before, 'SIGKILL');
    const after = await eventually(
      async () => (await lab.state()).pods.find(({ name }) => name === 'two')?.containers[0]?.process?.pid ?? before,
      (pid) => pid !== before,
    );
    t.not(after, before);
    t.match(await lab.must(['wait', 'ready', 'two', '-n', 'shop', '--timeout', '20s']), '1 pods ready');
  });
});

t.test('down leaves nothing, however the lab ended', async (t) => {
  const lab = await startLab(t, { files: { 'objects.yaml': OBJECTS, 'server.mjs': SERVER }, args: ['--no-mesh'] });
  const { id, lab: own } = await lab.state();
  t.not((await netnsOf(id)).length, 0);
  process.kill(own.pid, 'SIGKILL');
  await sleep(300);
  t.same(await processesBelow(lab.runDir), [], 'no process outlives the lab');
  t.match(await lab.culvert(['get', 'pods']), { code: 1, stderr: /culvert down removes it/u });
  t.match(await lab.must(['down']), /network namespaces/u);
  t.same(await netnsOf(id), []);
  t.notOk(existsSync(lab.runDir));
  t.match(await lab.must(['down']), /nothing runs/u, 'down is idempotent');

  await lab.must(['up', lab.folder, '--no-mesh', '--detach', '--nodes', '1'], {});
  t.match(await lab.culvert(['up', lab.folder, '--no-mesh']), { code: 1, stderr: /a lab runs in .* already/u });
  const last = (await lab.state()).lab;
  process.kill(last.pid, 'SIGTERM');
  const gone = await eventually(
    () => netnsOf(id),
    (left) => left.length === 0 && !existsSync(lab.runDir) && !existsSync(`/proc/${last.pid}`),
  );
  t.notOk(existsSync(`/proc/${last.pid}`), 'the lab has ended');
  t.same(gone, [], 'SIGTERM cleans up by itself');
  t.notOk(existsSync(lab.runDir));
});
