// Another ztunnel of ambient mode as a process (PEER_ZTUNNEL), with the CNI agent that tells it of pods. It takes port 15021 and those of
// its admin pages on this host, so there is one at a time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import type { Workload } from '../../ztunnel/state/model.ts';
import { Endpoint } from './endpoint.ts';
import type { AccessLine, LabNode, MeshLab } from './mesh-lab.ts';
import { eventually } from './mesh-lab.ts';
import type { TestPod } from './pod-net.ts';
import { ZdsAgent } from './zds-agent.ts';

export interface PeerZtunnel {
  readonly agent: ZdsAgent;
  /** The next line that tells an end in this direction, with this error; lines before it are skipped. */
  line(direction: string, error?: RegExp): Promise<AccessLine>;
}

/** Starts the binary with `dir` as its working folder; resolves once it has its state and has dialled the agent. */
export async function startPeerZtunnel(
  t: Pick<Test, 'teardown'>,
  path: string,
  dir: string,
  env: Readonly<Record<string, string>>,
): Promise<PeerZtunnel> {
  const turn = await takeTurn();
  t.teardown(() => turn.close());
  const agent = new ZdsAgent(t, join(dir, 'peer.sock'));
  const all = { INPOD_UDS: join(dir, 'peer.sock'), RUST_LOG: 'info', LOG_FORMAT: 'json', ...env };
  const child = spawn(path, ['proxy', 'ztunnel'], { env: all, cwd: dir, stdio: ['ignore', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  const lines: AccessLine[] = [];
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const texts = (rest + chunk.toString()).split('\n');
    rest = texts.pop() ?? '';
    for (const text of texts) {
      if (process.env['TEST_LOG']) process.stderr.write(`${text}\n`);
      const line = text.startsWith('{') ? (JSON.parse(text) as AccessLine) : {};
      if (line['scope'] === 'access' && line['message'] !== 'connection opened') lines.push(line);
    }
  });
  await Promise.race([agent.connected(), exit.then(() => Promise.reject(new Error('the peer has ended')))]);
  return {
    agent,
    line: (direction, error) =>
      eventually('a line of the peer', () => {
        const wanted = (one: AccessLine): boolean =>
          one['direction'] === direction && (error === undefined || error.test(String(one['error'])));
        const index = lines.findIndex(wanted);
        return index < 0 ? undefined : lines.splice(0, index + 1).at(-1);
      }),
  };
}

/** Held by whoever listens at a name that test files share: they run beside each other. */
async function takeTurn(): Promise<Server> {
  for (const end = performance.now() + 40_000; ; await sleep(100)) {
    const server = createServer().listen('\0culvert-peer-ztunnel');
    try {
      await once(server, 'listening');
      return server;
    } catch (error) {
      if (performance.now() > end) throw error;
    }
  }
}

/** A pod on the wire, served by the peer, and redirected. */
export async function capturedByPeer(lab: MeshLab, peer: PeerZtunnel, workload: Workload): Promise<TestPod> {
  const pod = lab.pod(workload);
  const { name, namespace, serviceAccount } = workload;
  const error = await peer.agent.add({ uid: `zds-${name}`, name, namespace, serviceAccount, netns: pod.netns.fd });
  if (error !== '') throw new Error(`the peer does not serve ${name}: ${error}`);
  await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
  return pod;
}

/** Five bytes there and back, then an end; how many came back. */
export async function talk(from: TestPod, to: HostPort): Promise<number> {
  const end = await Endpoint.open(from, to);
  end.socket.write('hello');
  await end.gets(5);
  end.socket.end();
  await end.until('closed');
  return end.bytes;
}

/** A pod and where it is called. */
export interface TunnelEnd {
  readonly pod: TestPod;
  readonly identity: SpiffeId;
  readonly at: HostPort;
}

/** A tunnel from `ours`, a pod of our ztunnel, to `theirs`, one of the peer's, and one back; of each both ztunnels tell the same. Our lines. */
export async function tunnelsBothWays(
  t: Test,
  { near, far, ours, theirs }: { near: LabNode; far: PeerZtunnel; ours: TunnelEnd; theirs: TunnelEnd },
): Promise<{ out: AccessLine; home: AccessLine }> {
  t.equal(await talk(ours.pod, theirs.at), 5);
  const [out, into] = [await near.line({ direction: 'outbound' }), await far.line('inbound')];
  t.match(out, { 'src.identity': ours.identity, 'dst.identity': theirs.identity });
  t.same(sharedFields(out), sharedFields(into), 'ours to theirs: one story');
  t.equal(await talk(theirs.pod, ours.at), 5);
  const [away, home] = [await far.line('outbound'), await near.line({ direction: 'inbound' })];
  t.match(home, { 'src.identity': theirs.identity, 'dst.identity': ours.identity });
  t.same(sharedFields(away), sharedFields(home), 'theirs to ours: one story');
  return { out, home };
}

/** What both ends of one tunnel say the same of. */
function sharedFields(line: AccessLine): Record<string, unknown> {
  const fields = ['workload', 'namespace', 'identity', 'cluster'];
  const names = ['src', 'dst'].flatMap((side) => fields.map((field) => `${side}.${field}`));
  return Object.fromEntries(
    [...names, 'dst.addr', 'dst.hbone_addr', 'bytes_sent', 'bytes_recv'].map((name) => [name, line[name]]),
  );
}
