// The admin pages of a running ztunnel: what only its threads know, and what must not be shown.
import t from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
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
