// The folder source against a real folder: what is served, what is a fault, what stays.
import { mkdtemp, mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { FolderSource } from '../../../shared/kube/folder-source.ts';
import { FolderWriter } from '../../../shared/kube/folder-writer.ts';
import { Informer } from '../../../shared/kube/informer.ts';
import { formatFault } from '../../../shared/kube/object.ts';

interface Folders {
  root: string;
  user: string;
  written: string;
  status: string;
  informer: Informer;
  put(name: string, text: string): Promise<void>;
  faults(): string[];
  /** Waits until `probe` holds; fails after 3 s. */
  until(probe: () => boolean, what: string): Promise<void>;
}

async function folders(t: Test, files: Record<string, string> = {}): Promise<Folders> {
  const root = await mkdtemp(path.join(tmpdir(), 'culvert-folder-'));
  const [user, written, status] = ['user', 'objects', 'status'].map((name) => path.join(root, name)) as [string, string, string];
  for (const folder of [user, written, status]) await mkdir(folder);
  const put = async (name: string, text: string): Promise<void> => {
    await writeFile(path.join(root, '.tmp'), text);
    await rename(path.join(root, '.tmp'), path.join(user, name));
  };
  for (const [name, text] of Object.entries(files)) await put(name, text);
  const source = new FolderSource({ folders: [user, written], statusFolder: status });
  const informer = new Informer(source);
  t.teardown(async () => {
    informer.close();
    await rm(root, { recursive: true, force: true });
  });
  await informer.start();
  const until = async (probe: () => boolean, what: string): Promise<void> => {
    for (let i = 0; i < 300 && !probe(); i++) await sleep(10);
    t.ok(probe(), what);
  };
  return {
    root,
    user,
    written,
    status,
    informer,
    put,
    until,
    faults: () => informer.faults.map(formatFault).map((line) => line.replaceAll(`${root}/`, '')),
  };
}

const namespace = (name: string, labels = ''): string => `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels: {${labels}}
`;

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: web, image: web}]
`;

t.test('serves what is there, then what changes', async (t) => {
  const f = await folders(t, { 'a.yaml': `${namespace('shop')}---\n${namespace('bank')}` });
  t.equal(f.informer.list('Namespace').length, 2);
  t.match(f.informer.get('Namespace', '', 'shop')?.metadata.uid, /^[0-9a-f-]{36}$/u);
  const batches: number[] = [];
  f.informer.onChange((events) => batches.push(events.length));
  await f.put('a.yaml', `${namespace('shop', 'a: "1"')}---\n${namespace('bank')}`);
  await f.until(() => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['a'] === '1', 'a replaced file is read');
  t.same(batches, [1], 'only what changed is told');
  await rm(path.join(f.user, 'a.yaml'));
  await f.until(() => f.informer.list('Namespace').length === 0, 'a removed file takes its objects away');
  t.same(f.faults(), []);
});

t.test('Deployments become Pods with stable names', async (t) => {
  const f = await folders(t, { 'web.yaml': deployment });
  t.same(
    f.informer.list('Pod', 'shop').map(({ metadata }) => metadata.name),
    ['web-0', 'web-1'],
  );
  const pod = f.informer.get('Pod', 'shop', 'web-0');
  t.match(pod, {
    spec: { serviceAccountName: 'web' },
    metadata: { labels: { app: 'web' }, ownerReferences: [{ kind: 'Deployment', name: 'web' }] },
  });
  const { uid } = pod?.metadata ?? {};
  await f.put('web.yaml', deployment.replace('replicas: 2', 'replicas: 1'));
  await f.until(() => f.informer.list('Pod').length === 1, 'scaled down');
  t.equal(f.informer.get('Pod', 'shop', 'web-0')?.metadata.uid, uid);
});

t.test('faults say file, line, object, field and reason, and the last good state stays', async (t) => {
  const f = await folders(t, { 'web.yaml': `${deployment}---\n${namespace('shop')}` });
  await f.put('web.yaml', `${deployment.replace('replicas: 2', 'replica: 3')}---\n${namespace('shop', 'new: x')}`);
  await f.until(() => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['new'] === 'x', 'the other document is served');
  t.same(f.faults(), ['user/web.yaml:5: Deployment/shop/web: spec.replica: unknown field']);
  t.equal(f.informer.list('Pod').length, 2, 'the faulty one keeps its last good state');

  await f.put('web.yaml', `kind: [\n---\n${namespace('shop', 'new: y')}`);
  await f.until(() => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['new'] === 'y', 'the other document is served');
  t.match(f.faults(), [/^user\/web.yaml:\d: is not YAML: /u]);
  t.equal(f.informer.list('Pod').length, 2);

  await f.put('web.yaml', namespace('shop'));
  await f.until(() => f.informer.list('Pod').length === 0, 'gone when the file says so without a fault');
  t.same(f.faults(), []);
});

t.test('a file that is truncated and written in steps never deletes its objects', async (t) => {
  const f = await folders(t, { 'ns.yaml': namespace('shop') });
  let deleted = false;
  f.informer.onChange((events) => (deleted ||= events.some(({ type }) => type === 'delete')));
  const file = path.join(f.user, 'ns.yaml');
  await writeFile(file, '');
  await sleep(150);
  t.match(f.faults(), [/is empty/u]);
  await writeFile(file, 'apiVersion: v1\nkind: Name');
  await sleep(150);
  await writeFile(file, namespace('shop', 'b: c'));
  await f.until(() => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['b'] === 'c', 'the finished file is served');
  await f.until(() => f.faults().length === 0, 'without faults');
  t.notOk(deleted);
});

t.test('two folders: the last word counts; one folder: a fault', async (t) => {
  const f = await folders(t, { 'ns.yaml': namespace('shop', 'from: user') });
  const writer = new FolderWriter({ folder: f.written, statusFolder: f.status, writer: 'cli' });
  const ns = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', namespace: '', labels: { from: 'cli' } } };
  await writer.apply(ns);
  const from = (label: string) => () => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['from'] === label;
  await f.until(from('cli'), 'the newer file wins');
  t.same(f.faults(), []);
  await f.put('ns.yaml', namespace('shop', 'from: user-again'));
  await f.until(from('user-again'), 'the newest wins whatever the folder');
  await utimes(path.join(f.user, 'ns.yaml'), 1, 1);
  await f.until(from('cli'), 'by time of writing');
  await f.put('other.yaml', namespace('shop', 'from: second'));
  await f.until(() => f.faults().length === 1, 'twice in one folder');
  t.match(f.faults(), ['user/other.yaml:1: Namespace//shop: is in this folder twice; the one at user/ns.yaml:1 is used']);
  await writer.hide('Namespace//shop');
  await f.until(() => f.informer.list('Namespace').length === 0, 'hidden by the deletion annotation');
  await writer.remove('Namespace//shop');
  await f.until(() => f.informer.list('Namespace').length === 1, 'and back');
});

t.test('overlays of several writers are merged over their object', async (t) => {
  const f = await folders(t, { 'web.yaml': deployment });
  const options = { folder: f.written, statusFolder: f.status };
  const kubelet = new FolderWriter({ ...options, writer: 'kubelet' });
  const agent = new FolderWriter({ ...options, writer: 'agent' });
  await kubelet.overlay('Pod/shop/web-0', { status: { phase: 'Running', podIP: '10.0.0.1' } });
  await agent.overlay('Pod/shop/web-0', { metadata: { annotations: { 'ambient.istio.io/redirection': 'enabled' } } });
  await agent.overlay('Pod/shop/none', { status: {} });
  await f.until(() => {
    const pod = f.informer.get('Pod', 'shop', 'web-0');
    return pod?.status?.podIP === '10.0.0.1' && pod.metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled';
  }, 'both are merged');
  t.equal(f.informer.get('Pod', 'shop', 'none'), undefined);
  await agent.overlay('Pod/shop/web-0', undefined);
  await f.until(() => f.informer.get('Pod', 'shop', 'web-0')?.metadata.annotations === undefined, 'taken back');
  await writeFile(path.join(f.status, 'Pod--shop--web-0.kubelet.yaml'), 'a: [');
  await f.until(() => f.faults().length === 1, 'a broken overlay is a fault');
  t.equal(f.informer.get('Pod', 'shop', 'web-0')?.status?.podIP, '10.0.0.1', 'and the one before stays');
});

t.test('a folder that goes away keeps its objects, and is watched again when it is back', async (t) => {
  const f = await folders(t, { 'ns.yaml': namespace('shop') });
  await rename(f.user, `${f.user}.away`);
  await f.until(() => f.faults().length === 1, 'told as a fault');
  t.equal(f.informer.list('Namespace').length, 1);
  await rename(`${f.user}.away`, f.user);
  await f.until(() => f.faults().length === 0, 'and back');
  await f.put('ns.yaml', namespace('bank'));
  await f.until(() => f.informer.get('Namespace', '', 'bank') !== undefined, 'still watched');
});

t.test('a folder that is empty or replaced for a moment deletes nothing; one that stays so does', async (t) => {
  const f = await folders(t, { 'a.yaml': namespace('shop'), 'b.yaml': namespace('bank') });
  let deleted = 0;
  f.informer.onChange((events) => (deleted += events.filter(({ type }) => type === 'delete').length));
  await rm(path.join(f.user, 'a.yaml'));
  await rm(path.join(f.user, 'b.yaml'));
  await sleep(500);
  await f.put('b.yaml', namespace('bank'));
  await sleep(300);
  await f.put('a.yaml', namespace('shop', 'back: again'));
  await f.until(() => f.informer.get('Namespace', '', 'shop')?.metadata.labels?.['back'] === 'again', 'restored');
  t.equal(deleted, 0, 'emptied and filled again');

  await rename(f.user, `${f.user}.old`);
  await mkdir(f.user);
  await f.put('b.yaml', namespace('bank', 'new: folder'));
  await f.until(() => f.informer.get('Namespace', '', 'bank')?.metadata.labels?.['new'] === 'folder', 'the new folder is read');
  t.equal(deleted, 0, 'replaced by a folder that is still being filled');
  await f.until(() => f.informer.get('Namespace', '', 'shop') === undefined, 'what it lacks for long is gone');
  t.equal(deleted, 1);
  await rm(path.join(f.user, 'b.yaml'));
  await f.until(() => f.informer.list('Namespace').length === 0, 'an empty folder is believed in the end');
});

t.test('a folder that is not there at first: no part of the objects passes for all of them', async (t) => {
  const f = await folders(t, { 'ns.yaml': namespace('shop') });
  const missing = path.join(f.root, 'none');
  const source = new FolderSource({ folders: [f.user, missing] });
  await t.rejects(new Informer(source).start(), { code: 'invalid_config', message: /none: ENOENT/u });
});

t.test('overlays may come later', async (t) => {
  const f = await folders(t, { 'ns.yaml': namespace('shop') });
  const informer = new Informer(new FolderSource({ folders: [f.user], statusFolder: path.join(f.root, 'none') }));
  t.teardown(() => informer.close());
  await informer.start();
  t.equal(informer.list('Namespace').length, 1);
});
