// Beside another ztunnel of ambient mode, built by hand: PEER_ZTUNNEL=PATH. It reads the state file that has every field, and what it shows of
// it on its admin page is what ours shows.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import type { Test } from 'tap';
import { dumpState } from '../../ztunnel/state/dump.ts';
import { parseState } from '../../ztunnel/state/local-file.ts';
import { MeshStore } from '../../ztunnel/state/store.ts';
import { EVERY_FIELD } from '../fixtures/state-file.ts';
import { eventually } from '../harness/mesh-lab.ts';
import { createNetns } from '../harness/netns.ts';

t.setTimeout(60_000);

const PEER = process.env['PEER_ZTUNNEL'];
const PARTS = ['workloads', 'services', 'policies', 'stagedServices'] as const;

t.test('both show the same of the same file', { skip: PEER === undefined && 'PEER_ZTUNNEL names no binary' }, async (t) => {
  const theirs = await dumpOfPeer(t, PEER ?? '');
  const store = new MeshStore('local');
  store.apply(parseState(EVERY_FIELD));
  const ours = dumpState(store);
  for (const part of PARTS) {
    // Ours shows default values too.
    t.match(plain(ours[part]), plain(theirs[part]), part);
    t.equal(Object.keys(ours[part]).length, Object.keys(theirs[part]).length);
  }
});

async function dumpOfPeer(t: Test, path: string): Promise<Record<(typeof PARTS)[number], object>> {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-peer-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, 'state.yaml');
  await writeFile(file, EVERY_FIELD);
  const netns = createNetns(t, 'peer');
  const inside = ['netns', 'exec', netns.name];
  const env = {
    NODE_NAME: 'local',
    XDS_ADDRESS: '',
    CA_ADDRESS: 'https://127.0.0.1:1',
    LOCAL_XDS_PATH: file,
    INPOD_UDS: join(dir, 'zds'),
  };
  const child = spawn('ip', [...inside, path], { env: { ...process.env, ...env }, cwd: dir, stdio: 'ignore' });
  const exit = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  return await eventually('its dump', async () => {
    const curl = spawn('ip', [...inside, 'curl', '-s', '-m', '5', '127.0.0.1:15000/config_dump'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const answer = await text(curl.stdout);
    return answer === '' ? undefined : (JSON.parse(answer) as Record<(typeof PARTS)[number], object>);
  });
}

/** As JSON has it; lists in one order, as theirs have none. */
function plain(value: object): object {
  const copy = JSON.parse(JSON.stringify(value)) as object | { uid?: string }[];
  return Array.isArray(copy) ? copy.sort((a, b) => (a.uid ?? '').localeCompare(b.uid ?? '')) : copy;
}
