// A mesh in one test process: ztunnels as nodes, pods in network namespaces enrolled through ZDS with the rules of the real agent,
// state and certificates given by the test.
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import type { Test } from 'tap';
import type { Clock } from '#shared/clock.ts';
import { systemClock } from '#shared/clock.ts';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { applyPodRules } from '../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../cni/rules/pod.ts';
import type { ZtunnelApp } from '../../ztunnel/app.ts';
import { buildApp } from '../../ztunnel/app.ts';
import { loadConfig } from '../../ztunnel/config.ts';
import type { Policy, Service, Workload } from '../../ztunnel/state/model.ts';
import type { StateChange } from '../../ztunnel/state/store.ts';
import { changeOf } from '../fixtures/mesh.ts';
import type { PodNet, TestPod } from './pod-net.ts';
import { createPodNet } from './pod-net.ts';
import type { TestCa } from './test-ca.ts';
import { createTestCa } from './test-ca.ts';
import { ZdsAgent } from './zds-agent.ts';

/** One access line, as JSON has it. */
export type AccessLine = Readonly<Record<string, string | number>>;

export interface LabNode {
  readonly name: string;
  readonly app: ZtunnelApp;
  readonly agent: ZdsAgent;
  /** Lines of the scope `access` that tell an end, oldest first. */
  readonly lines: AccessLine[];
  /** Every line of the log, oldest first. */
  readonly log: AccessLine[];
  /** The next line that has these fields (since the last call that returned it). */
  line(fields: AccessLine): Promise<AccessLine>;
  /** The exposition's value of a metric summed over label sets that contain `labels`. */
  metric(name: string, labels?: string): Promise<number>;
}

export class MeshLab {
  readonly net: PodNet;
  readonly ca: TestCa;
  readonly nodes = new Map<string, LabNode>();
  #t: Pick<Test, 'teardown'>;
  #state: StateChange[] = [];

  constructor(t: Pick<Test, 'teardown'>) {
    this.#t = t;
    this.net = createPodNet(t);
    this.ca = createTestCa();
  }

  /**
   * Starts the ztunnel of a node. Its certificates are those given, by default of the lab's own CA; `ca`: it asks CA_ADDRESS. With an INPOD_UDS
   * of its own it has another agent than the lab's.
   */
  async node(
    name: string,
    env: Record<string, string> = {},
    certificates: CertificateSource | 'ca' = certificatesOf(this.ca),
    clock: Clock = systemClock,
  ): Promise<LabNode> {
    const dir = await mkdtemp(join(tmpdir(), 'culvert-lab-'));
    this.#t.teardown(() => rm(dir, { recursive: true, force: true }));
    const agent = new ZdsAgent(this.#t, join(dir, 'zds.sock'));
    const variables: Record<string, string> = {
      NODE_NAME: name,
      XDS_ADDRESS: '',
      INPOD_UDS: join(dir, 'zds.sock'),
      ADMIN_PORT: '0',
      STATS_PORT: '0',
      READINESS_PORT: '0',
      CONNECTION_TERMINATION_DEADLINE: '1s',
      ZTUNNEL_WORKER_THREADS: process.env['ZTUNNEL_WORKER_THREADS'] ?? '1',
      CULVERT_BACKEND: process.env['CULVERT_BACKEND'] ?? 'auto',
      ...env,
    };
    const lines: AccessLine[] = [];
    const log: AccessLine[] = [];
    const sink = { write: (line: string): void => collect(lines, log, line) };
    const app = await buildApp(
      loadConfig((variable) => variables[variable]),
      {
        logging: new Logging({ format: 'json', sink, level: process.env['TEST_LOG'] ?? 'info' }),
        requestStop: () => undefined,
        clock,
        ...(certificates === 'ca' ? {} : { certificates }),
      },
    );
    this.#t.teardown(() => app.stop());
    app.store.apply(this.#state);
    if (env['INPOD_UDS'] === undefined) await agent.connected();
    const seen = new Set<AccessLine>();
    const node: LabNode = {
      name,
      app,
      agent,
      lines,
      log,
      line: (fields) =>
        eventually(`a line with ${JSON.stringify(fields)} on ${name}; have ${JSON.stringify(lines)}`, () => {
          const found = lines.find(
            (line) => !seen.has(line) && Object.entries(fields).every(([key, value]) => line[key] === value),
          );
          if (found) seen.add(found);
          return found;
        }),
      metric: async (metric, labels = '') => sumOf((await app.metrics.render()).body, metric, labels),
    };
    this.nodes.set(name, node);
    return node;
  }

  /** A pod on the wire that is not enrolled. */
  pod(workload: Workload): TestPod {
    return this.net.pod(workload.name, ...workload.ips);
  }

  /** A pod on the wire, redirected, and served by the ztunnel of its node. */
  async captured(workload: Workload): Promise<TestPod> {
    const pod = this.pod(workload);
    await this.enrol(workload, pod);
    return pod;
  }

  async enrol(workload: Workload, pod: TestPod): Promise<void> {
    const { name, namespace, serviceAccount } = workload;
    const error = await this.#node(workload.node).agent.add({
      uid: `zds-${name}`,
      name,
      namespace,
      serviceAccount,
      netns: pod.netns.fd,
    });
    if (error !== '') throw new Error(error);
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: false });
  }

  /** Tells every ztunnel, also those that start later; resolves when the next connection is served by it. */
  apply(...entries: readonly (Workload | Service | Policy)[]): Promise<void> {
    return this.change(...entries.map(changeOf));
  }

  async change(...changes: readonly StateChange[]): Promise<void> {
    this.#state.push(...changes);
    for (const { app } of this.nodes.values()) app.store.apply(changes);
    // Data workers hear of it by a message. They read their messages in order, so one that says what its connections are has taken the state.
    const asked = Array.from(this.nodes.values(), ({ app }) => fetch(`http://127.0.0.1:${app.ports.admin}/config_dump`));
    for (const answer of await Promise.all(asked)) await answer.text();
  }

  #node(name: string): LabNode {
    const node = this.nodes.get(name);
    if (!node) throw new Error(`no node ${name} in this lab`);
    return node;
  }
}

/** Every identity gets a certificate of the CA, made once. */
export function certificatesOf(ca: TestCa): CertificateSource {
  const issued = new Map<SpiffeId, WorkloadCertificate>();
  return {
    async get(identity) {
      const certificate = issued.get(identity) ?? ca.issue(identity);
      issued.set(identity, certificate);
      return certificate;
    },
  };
}

/** Asks until there is an answer, for twenty seconds: a process that starts on a busy machine takes more than five. */
export async function eventually<T>(
  what: string | (() => string),
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  for (const end = performance.now() + 20_000; ;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`waited in vain for ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function collect(lines: AccessLine[], log: AccessLine[], text: string): void {
  if (process.env['TEST_LOG']) process.stderr.write(text);
  const line = JSON.parse(text) as AccessLine;
  log.push(line);
  if (line['scope'] === 'access' && line['message'] !== 'connection opened') lines.push(line);
}

function sumOf(body: string, metric: string, labels: string): number {
  return body
    .split('\n')
    .filter((line) => (line.startsWith(`${metric}{`) || line.startsWith(`${metric} `)) && line.includes(labels))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
