// Ztunnels as processes of their own, for tests that need more descriptors than one process may have, or that measure one: pods in network
// namespaces on one wire, enrolled and redirected, and applications that hold many connections.
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import type { Workload } from '../../ztunnel/state/model.ts';
import type { HolderOrder, HolderReport } from '../fixtures/holder.ts';
import type { ZtunnelStart, ZtunnelUsage } from '../fixtures/lab-ztunnel.ts';
import { changeOf } from '../fixtures/mesh.ts';
import { createPodNet, type PodNet, type TestPod } from './pod-net.ts';
import { createTestCa } from './test-ca.ts';
import { ZdsAgent } from './zds-agent.ts';

export interface ZtunnelNode {
  readonly agent: ZdsAgent;
  usage(): Promise<ZtunnelUsage>;
  /** The sum of a metric over label sets that contain `labels`. */
  metric(name: string, labels?: string): Promise<number>;
  /** Ends the process as kill -9 does. */
  kill(): Promise<void>;
  /** Starts another one that takes over; resolves when it serves the pods of its agent, and the other has ended with this code. */
  replace(): Promise<number | null>;
  /** Starts another one in place of one that was killed; resolves when it has the pods of its agent. */
  restart(): Promise<void>;
}

type Holder = (order: HolderOrder) => Promise<HolderReport>;

export class ZtunnelProcesses {
  readonly net: PodNet;
  readonly #t: Pick<Test, 'teardown'>;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #workloads: readonly Workload[];
  readonly #certificates: ReadonlyMap<SpiffeId, WorkloadCertificate>;
  readonly #nodes = new Map<string, ZtunnelNode>();

  /** `environment`: of the processes, beside this one's; what configures a ztunnel is given to node(). */
  constructor(t: Pick<Test, 'teardown'>, workloads: readonly Workload[], environment: Record<string, string> = {}) {
    this.#t = t;
    this.#environment = { ...process.env, ...environment };
    this.#workloads = workloads;
    const ca = createTestCa();
    this.#certificates = new Map(workloads.map(({ identity }) => [identity, ca.issue(identity)]));
    this.net = createPodNet(t);
  }

  /** Starts the ztunnel of a node. `descriptors`: the most that it may have open from then on; `place`: whose network it is in. */
  async node(name: string, env: Record<string, string> = {}, descriptors?: number, place?: TestPod): Promise<ZtunnelNode> {
    const dir = await mkdtemp(join(tmpdir(), 'culvert-many-'));
    this.#t.teardown(() => rm(dir, { recursive: true, force: true }));
    const path = join(dir, 'zds.sock');
    const agent = new ZdsAgent(this.#t, path);
    const ports = { ADMIN_PORT: '0', STATS_PORT: '0', READINESS_PORT: '0' };
    const start: ZtunnelStart = {
      env: { NODE_NAME: name, XDS_ADDRESS: '', INPOD_UDS: path, CULVERT_BACKEND: 'native', ...ports, ...env },
      state: this.#workloads.map(changeOf),
      certificates: this.#certificates,
      ...(descriptors === undefined ? {} : { descriptors }),
    };
    let child = await (place ? this.#ztunnelIn(place, start) : this.#ztunnel(start));
    await agent.connected();
    const usage = (): Promise<ZtunnelUsage> => ask(child, 'usage');
    const node: ZtunnelNode = {
      agent,
      usage,
      metric: async (metric, labels = '') => sumOf((await usage()).metrics, metric, labels),
      async kill() {
        agent.expectAnother();
        child.kill('SIGKILL');
        await once(child, 'exit');
      },
      replace: async () => {
        agent.expectAnother();
        const ended = once(child, 'exit');
        const next = { ...start, takeover: true };
        child = await (place ? this.#ztunnelIn(place, next) : this.#ztunnel(next));
        await agent.connected();
        const [code] = (await ended) as [number | null];
        return code;
      },
      restart: async () => {
        child = await this.#ztunnel(start);
        await agent.connected();
      },
    };
    this.#nodes.set(name, node);
    return node;
  }

  /** A pod on the wire, redirected, and served by the ztunnel of its node. */
  async captured({ name, namespace, serviceAccount, ips, node }: Workload): Promise<TestPod> {
    const pod = this.net.pod(name, ...ips);
    const agent = this.#nodes.get(node)?.agent;
    const error = await agent?.add({ uid: `zds-${name}`, name, namespace, serviceAccount, netns: pod.netns.fd });
    if (error !== '') throw new Error(`${name} on ${node}: ${error}`);
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
    return pod;
  }

  /** An application of one pod that holds connections to one of another. */
  async holderOf(from: TestPod, to: TestPod): Promise<Holder> {
    const { first: port } = await this.#application(to, 'server');
    const { child } = await this.#application(from, 'client', to.ip, String(port));
    return (order) => ask(child, order);
  }

  async #application(pod: TestPod, ...args: string[]): Promise<{ child: ChildProcess; first: unknown }> {
    const command = ['netns', 'exec', pod.netns.name, process.execPath, fixture('holder'), ...args];
    const child = spawn('ip', command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#endsWithTest(child);
    return { child, first: await messageOf(child) };
  }

  /** A pod on the wire that has a ztunnel of its own. */
  async dedicated({ name, namespace, serviceAccount, ips }: Workload, env: Record<string, string> = {}): Promise<TestPod> {
    const pod = this.net.pod(name, ...ips);
    const all = {
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: `${namespace}/${name}/${serviceAccount}`,
      PACKET_MARK: '1337',
      XDS_ADDRESS: '',
      CULVERT_BACKEND: 'native',
      ...env,
    };
    await this.#ztunnelIn(pod, { env: all, state: this.#workloads.map(changeOf), certificates: this.#certificates });
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
    return pod;
  }

  async #ztunnelIn(pod: TestPod, start: ZtunnelStart): Promise<ChildProcess> {
    const command = ['netns', 'exec', pod.netns.name, process.execPath, fixture('lab-ztunnel')];
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
    const child = spawn('ip', command, { stdio: [...stdio], serialization: 'advanced', env: this.#environment });
    this.#endsWithTest(child);
    child.send(start);
    await messageOf(child);
    return child;
  }

  async #ztunnel(start: ZtunnelStart): Promise<ChildProcess> {
    const child = fork(fixture('lab-ztunnel'), {
      serialization: 'advanced',
      env: this.#environment,
      execArgv: ['--expose-gc', '--max-semi-space-size=4'],
    });
    this.#endsWithTest(child);
    child.send(start);
    await messageOf(child);
    return child;
  }

  #endsWithTest(child: ChildProcess): void {
    const exit = once(child, 'exit');
    this.#t.teardown(async () => {
      child.kill('SIGKILL');
      await exit;
    });
  }
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}.ts`, import.meta.url));
}

function ask<T>(child: ChildProcess, question: HolderOrder | string): Promise<T> {
  const answer = messageOf<T>(child);
  child.send(question);
  return answer;
}

/** The child's next message; rejects when it ends instead. */
async function messageOf<T>(child: ChildProcess): Promise<T> {
  const over = new AbortController();
  const ended = once(child, 'exit', { signal: over.signal }).then(([code]) => {
    throw new Error(`a process of the test ended with ${code}`);
  });
  try {
    const [message] = (await Promise.race([once(child, 'message', { signal: over.signal }), ended])) as [T];
    return message;
  } finally {
    ended.catch(() => undefined);
    over.abort();
  }
}

function sumOf(body: string, metric: string, labels: string): number {
  return body
    .split('\n')
    .filter((line) => line.startsWith(`${metric}{`) && line.includes(labels))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
