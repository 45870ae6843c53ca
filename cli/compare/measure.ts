// One mode of the comparison: a lab of its own with the application in it, traffic through it, and the memory of what carries it.
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { systemClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { uidOf } from '#shared/kube/expand.ts';
import { PORT } from '#shared/ports.ts';
import { Lab } from '../lab/app.ts';
import { requestToken } from '../lab/control-plane.ts';
import { FABRIC_ADDRESS } from '../lab/plan.ts';
import { enterContainer } from '../lab/pod/container.ts';
import { run, runProgram } from '../lab/run.ts';
import { readLabState } from '../lab/state.ts';
import type { LabState } from '../lab/state.ts';
import { waitForPods } from '../wait.ts';
import { envoyBootstrap } from './envoy-bootstrap.ts';
import { nodeMemory, readMemory } from './memory-reading.ts';
import type { ModeMemory, ProxyMemory } from './result.ts';
import { APP_FILES, APP_NAMESPACE, servedServices, workloadObjects } from './workload.ts';
import type { SidecarOptions } from './workload.ts';

export interface MeasureOptions {
  /** Numbers of pods to measure at, rising. */
  steps: readonly number[];
  services: number;
  nodes: number;
  /** Envoy's binary for sidecar mode; undefined: ambient mode. */
  envoy?: string | undefined;
  root: string;
  progress: (line: string) => void;
  signal: AbortSignal;
}

interface PlacedOptions extends MeasureOptions {
  sidecar?: SidecarOptions | undefined;
}

/** Milliseconds. */
const READY_TIMEOUT = 60_000;
/** After the traffic, so that what is freed at once is not counted. */
const SETTLE = 1500;
/** Requests that each pod sends to each service before it is measured. */
const REQUESTS = 20;

/** The memory at each step; the lab is gone afterwards whatever happened. */
export async function measureMode(wanted: MeasureOptions): Promise<Map<number, ModeMemory>> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'culvert-compare-')));
  const runDir = join(base, 'run');
  const folder = join(base, 'objects');
  await mkdir(folder, { recursive: true });
  await mkdir(runDir);
  const quiet = (line: string): void => {
    if (line.startsWith('!')) options.progress(line);
  };
  const { nodes, root, envoy } = wanted;
  const sidecar = envoy === undefined ? undefined : { envoy, folder: join(folder, 'sidecar') };
  const options: PlacedOptions = { ...wanted, sidecar };
  const lab = new Lab({
    runDir,
    folder,
    nodes,
    root,
    programs: sidecar ? 'controlplane' : 'ambient',
    clock: systemClock,
    progress: quiet,
  });
  try {
    await writeAppFiles(folder, options);
    await writeObjects(folder, options, 0);
    await lab.start();
    if (sidecar) await fetchCertificate(runDir, sidecar.folder, root);
    const found = new Map<number, ModeMemory>();
    for (const pods of options.steps) {
      options.signal.throwIfAborted();
      await writeObjects(folder, options, pods);
      found.set(pods, await measureStep(runDir, options, pods));
    }
    return found;
  } finally {
    await lab.close();
    await rm(base, { recursive: true, force: true });
  }
}

/** One for all sidecars: their pods run as the same service account. */
async function fetchCertificate(runDir: string, folder: string, root: string): Promise<void> {
  const state = await readLabState(runDir);
  const pod = { podName: 'web-1-0', podUid: uidOf(`Pod/${APP_NAMESPACE}/web-1-0`), nodeName: 'node-1' };
  const { token } = await requestToken(runDir, { namespace: APP_NAMESPACE, serviceAccount: 'default', ...pod });
  await run([process.execPath, join(root, 'cli', 'compare', 'certificate.ts')], {
    netns: state?.fabric.netns,
    env: {
      CA_ADDRESS: `https://${FABRIC_ADDRESS}:${PORT.controlPlane}`,
      CA_ROOT_CA: join(runDir, 'controlplane', 'root-cert.pem'),
      AUTH_TOKEN: token,
      POD_NAMESPACE: APP_NAMESPACE,
      OUTPUT_DIR: folder,
    },
  });
}

async function measureStep(runDir: string, options: PlacedOptions, pods: number): Promise<ModeMemory> {
  const names = expectedPods(options, pods);
  await waitForPods(runDir, { timeout: READY_TIMEOUT, names });
  const state = await readLabState(runDir);
  if (!state) throw new MeshError('internal', `the lab in ${runDir} has no state`);
  await sendTraffic(state, servedServices({ ...options, pods }));
  await sleep(SETTLE);
  return modeMemory(await readProxies(state, options.sidecar !== undefined));
}

function expectedPods({ services, nodes, sidecar }: PlacedOptions, pods: number): string[] {
  const names = Array.from({ length: nodes }, (_, index) => `node-${index + 1}`);
  return workloadObjects({ pods, services, nodes: names, sidecar })
    .filter(({ kind }) => kind === 'Pod')
    .map(({ metadata }) => metadata.name);
}

async function writeAppFiles(folder: string, { sidecar }: PlacedOptions): Promise<void> {
  for (const [name, content] of Object.entries(APP_FILES)) await writeFile(join(folder, name), content);
  if (!sidecar) return;
  // A folder deeper, as it is no Kubernetes object.
  await mkdir(sidecar.folder);
  await writeFile(join(sidecar.folder, 'envoy.json'), JSON.stringify(envoyBootstrap({ address: FABRIC_ADDRESS })));
}

async function writeObjects(folder: string, { services, nodes, sidecar }: PlacedOptions, pods: number): Promise<void> {
  const names = Array.from({ length: nodes }, (_, index) => `node-${index + 1}`);
  const objects = workloadObjects({ pods, services, nodes: names, sidecar }).map(
    ({ metadata: { namespace, ...metadata }, ...object }) => ({
      ...object,
      metadata: namespace === '' ? metadata : { ...metadata, namespace },
    }),
  );
  const file = join(folder, 'app.yaml');
  await writeFile(`${file}.new`, objects.map((object) => stringify(object, { aliasDuplicateObjects: false })).join('---\n'));
  await cp(`${file}.new`, file);
  await rm(`${file}.new`);
}

/** From every pod to every other service: what does not get through would make the comparison worthless. */
async function sendTraffic(state: LabState, services: readonly string[]): Promise<void> {
  await Promise.all(
    state.pods.map(async (pod) => {
      const pid = pod.containers.find(({ name }) => name === 'web')?.process?.pid;
      // A pod that calls itself crosses no node and no other proxy: nothing of the mesh to compare.
      const others = services.filter((name) => !pod.name.startsWith(`${name}-`));
      if (pid === undefined || others.length === 0) return;
      const urls = others.map((name) => `http://${name}/[1-${REQUESTS}]`).join(' ');
      const command = `for i in 1 2 3 4 5; do curl -sSf -m 2 -o /dev/null ${urls} && exit 0; sleep 1; done; exit 1`;
      const result = await runProgram(enterContainer(pid, ['sh', '-c', command]));
      if (result.code === 0) return;
      const reason = result.stderr.trim().split('\n').at(-1) ?? '';
      throw new MeshError('internal', `pod ${pod.name} on ${pod.node} does not reach ${others.join(', ')}: ${reason}`);
    }),
  );
}

async function readProxies(state: LabState, sidecars: boolean): Promise<ProxyMemory[]> {
  const wanted = sidecars
    ? state.pods.flatMap((pod) =>
        pod.containers
          .filter(({ name }) => name === 'istio-proxy')
          .map(({ process }) => ({
            component: 'sidecar' as const,
            node: pod.node,
            pod: `${pod.namespace}/${pod.name}`,
            pid: process?.pid,
          })),
      )
    : state.system.flatMap(({ name, node, process }) =>
        node !== undefined && (name === 'ztunnel' || name === 'cni-agent')
          ? [{ component: name, node, pid: process?.pid } as const]
          : [],
      );
  return Promise.all(
    wanted.map(async ({ pid, ...rest }) => {
      if (pid === undefined) throw new MeshError('internal', `a ${rest.component} on ${rest.node} does not run`);
      return { ...rest, pid, ...(await readMemory(pid)) };
    }),
  );
}

function modeMemory(processes: ProxyMemory[]): ModeMemory {
  const perNode: Record<string, number> = {};
  for (const node of [...new Set(processes.map((process) => process.node))].sort())
    perNode[node] = nodeMemory(
      processes.filter((one) => one.node === node).map((one) => ({ ...one, program: one.program ?? '' })),
    );
  return {
    processes,
    pss: processes.reduce((sum, { pss }) => sum + pss, 0),
    perNode,
    total: Object.values(perNode).reduce((sum, bytes) => sum + bytes, 0),
  };
}
