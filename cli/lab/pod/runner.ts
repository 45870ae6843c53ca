// One pod from its sandbox to its end: network namespace, CNI chain, volumes, init containers, containers; and all of it undone.
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Backoff } from '#shared/backoff.ts';
import type { Clock, Timer } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { ConfigMap, Pod } from '#shared/kube/kinds.ts';
import { createNetns, deleteNetns } from '../net/netns.ts';
import { CLUSTER_DOMAIN, DNS_VIP, podDir, podNetns } from '../plan.ts';
import type { LabPlan, NodePlan } from '../plan.ts';
import { inNetns, netnsPath } from '../run.ts';
import type { Launch } from '../supervised.ts';
import { cniAdd, cniDel } from './cni.ts';
import type { CniNetwork, CniResult, CniTarget } from './cni.ts';
import { RunningContainer } from './container.ts';
import { containerCommand, containerEnv } from './environment.ts';
import type { Container, EnvironmentContext } from './environment.ts';
import { launchScript, TMPDIR } from './launch-script.ts';
import type { RootMount } from './root-mounts.ts';
import { podStatus } from './status.ts';
import type { PodStatusPatch } from './status.ts';
import { volumeMounts, writeVolumes } from './volumes.ts';
import type { Token } from './volumes.ts';

export interface PodRunnerDeps {
  plan: LabPlan;
  node: NodePlan;
  network: CniNetwork;
  clock: Clock;
  mounts: readonly RootMount[];
  /** Variables of every container. */
  baseEnv: Record<string, string>;
  /** Working folder of containers that name none. */
  workingDir: string;
  culvertImage(args: readonly string[]): string[] | undefined;
  configMap(namespace: string, name: string): ConfigMap | undefined;
  token(pod: Pod, nodeName: string): Promise<Token>;
  onChange(): void;
}

interface Sandbox {
  netns: string;
  target: CniTarget | undefined;
  result: CniResult | undefined;
  podIP: string;
}

/** Milliseconds that containers get to end themselves, where the pod does not say; 30 s as in Kubernetes would make a lab slow. */
const DEFAULT_GRACE = 2000;

/** Milliseconds after which a pod says what it waits for. */
const SLOW_ATTACH = 1500;

export class PodRunner {
  readonly pod: Pod;
  readonly node: NodePlan;
  readonly dir: string;
  #deps: PodRunnerDeps;
  #sandbox: Sandbox | undefined;
  #containers: RunningContainer[] = [];
  #trouble: { reason: string; message: string } | undefined = { reason: 'ContainerCreating', message: '' };
  #stop = new AbortController();
  #done: Promise<void> = Promise.resolve();
  #startedAt: number;
  #renewal: Timer | undefined;

  constructor(pod: Pod, deps: PodRunnerDeps) {
    this.pod = pod;
    this.node = deps.node;
    this.dir = podDir(deps.plan.runDir, pod.metadata.namespace, pod.metadata.name);
    this.#deps = deps;
    this.#startedAt = deps.clock.now();
  }

  get netns(): string | undefined {
    return this.#sandbox?.netns;
  }

  get containers(): readonly RunningContainer[] {
    return this.#containers;
  }

  status(): PodStatusPatch {
    return podStatus({
      hostIP: this.node.address,
      podIP: this.#sandbox?.podIP,
      trouble: this.#trouble,
      expected: this.pod.spec?.containers.length ?? 0,
      startedAt: this.#startedAt,
      containers: this.#containers.map(({ container, process, ready, notReady }) => ({
        name: container.name,
        image: container.image ?? '',
        process,
        ready,
        notReady,
      })),
    });
  }

  /** Tries until it runs or is stopped; what is in the way shows in the status. */
  start(): void {
    this.#done = this.#run();
  }

  /** Ends the containers and removes the sandbox. `limit` caps the grace period, ms. */
  async stop(limit = Number.POSITIVE_INFINITY): Promise<void> {
    this.#stop.abort();
    this.#renewal?.cancel();
    const grace = Math.min(limit, (this.pod.spec?.terminationGracePeriodSeconds ?? DEFAULT_GRACE / 1000) * 1000);
    await Promise.all(this.#containers.map((container) => container.stop(grace)));
    await this.#done;
    await Promise.all(this.#containers.map((container) => container.stop(grace)));
    await this.#removeSandbox();
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ initial: 300, max: 5000 });
    const { signal } = this.#stop;
    for (;;) {
      try {
        await mkdir(join(this.dir, 'volumes'), { recursive: true });
        this.#sandbox ??= await this.#addSandbox();
        if (!signal.aborted) await this.#startContainers(this.#sandbox);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#report(this.#sandbox ? 'CreateContainerConfigError' : 'FailedCreatePodSandBox', MeshError.from(error).message);
      }
      await this.#pause(backoff.next());
      if (signal.aborted) return;
    }
  }

  #report(reason: string, message: string): void {
    this.#trouble = { reason, message };
    this.#deps.onChange();
  }

  /** The network of the pod; a chain that takes long is told of, as is its failure before it has been undone. */
  async #attach(network: CniNetwork, target: CniTarget): Promise<CniResult> {
    const slow = this.#deps.clock.after(SLOW_ATTACH, () => {
      if (this.#trouble?.message === '') this.#report('ContainerCreating', 'waiting for the CNI plugins to attach its network');
    });
    try {
      return await cniAdd(network, target, (error) => this.#report('FailedCreatePodSandBox', MeshError.from(error).message));
    } finally {
      slow.cancel();
    }
  }

  async #addSandbox(): Promise<Sandbox> {
    const { node, network, plan, clock } = this.#deps;
    const { name, namespace, uid = '' } = this.pod.metadata;
    await this.#writeNameFiles(node.address);
    if (this.pod.spec?.hostNetwork === true)
      return { netns: node.netns, target: undefined, result: undefined, podIP: node.address };
    const netns = podNetns(plan.id);
    const containerId = randomBytes(32).toString('hex');
    const target = { containerId, netnsPath: netnsPath(netns), podName: name, podNamespace: namespace, podUid: uid };
    await createNetns(netns);
    try {
      const result = await this.#attach(network, target);
      const podIP = result.ips?.[0]?.address.split('/')[0];
      if (podIP === undefined) throw new MeshError('internal', 'the CNI chain gave the pod no address');
      await this.#writeNameFiles(podIP);
      this.#startedAt = clock.now();
      return { netns, target, result, podIP };
    } catch (error) {
      await deleteNetns(netns);
      throw error;
    }
  }

  async #removeSandbox(): Promise<void> {
    const sandbox = this.#sandbox;
    this.#sandbox = undefined;
    if (!sandbox?.target) return;
    // Whatever a plugin says, the namespace goes: the pod is gone, and the addresses are freed with the node at the latest.
    await cniDel(this.#deps.network, sandbox.target, sandbox.result).catch(() => {});
    await deleteNetns(sandbox.netns);
  }

  async #startContainers(sandbox: Sandbox): Promise<void> {
    const context = this.#context(sandbox);
    await this.#refreshVolumes(sandbox);
    const { initContainers = [], containers = [] } = this.pod.spec ?? {};
    for (const container of initContainers) await this.#runInit(container, sandbox, context);
    this.#trouble = undefined;
    this.#containers = containers.map((container) =>
      this.#newContainer(container, sandbox, context, this.pod.spec?.restartPolicy),
    );
    await Promise.all(this.#containers.map((container) => container.start()));
    this.#deps.onChange();
  }

  async #runInit(container: Container, sandbox: Sandbox, context: EnvironmentContext): Promise<void> {
    const init = this.#newContainer(container, sandbox, context, 'Never');
    const stop = (): void => void init.stop(0);
    this.#stop.signal.addEventListener('abort', stop);
    await init.start();
    while (init.process.state.t === 'running' && !this.#stop.signal.aborted) await this.#pause(20);
    this.#stop.signal.removeEventListener('abort', stop);
    const { state } = init.process;
    await init.stop(0);
    if (state.t !== 'ended' || state.exit.code !== 0)
      throw new MeshError(
        'internal',
        `init container ${container.name} did not succeed${state.t === 'ended' ? `: exit code ${state.exit.code}` : ''}`,
      );
  }

  #newContainer(
    container: Container,
    sandbox: Sandbox,
    context: EnvironmentContext,
    policy: string | undefined,
  ): RunningContainer {
    const restartPolicy = policy === 'Never' || policy === 'OnFailure' ? policy : 'Always';
    return new RunningContainer({
      container,
      restartPolicy,
      clock: this.#deps.clock,
      probeTarget: { nodeNetns: this.node.netns, podIP: sandbox.podIP },
      launch: () => this.#launch(container, sandbox, context),
      onChange: () => this.#deps.onChange(),
    });
  }

  async #launch(container: Container, sandbox: Sandbox, context: EnvironmentContext): Promise<Launch> {
    const env = containerEnv(container, { ...this.#deps.baseEnv, TMPDIR }, context);
    const command = containerCommand(container, env, (args) => this.#deps.culvertImage(args));
    const volumes = await volumeMounts(container, { ...context, dir: join(this.dir, 'volumes'), token: () => this.#token() });
    const own = container.securityContext;
    const shared = this.pod.spec?.securityContext;
    const script = launchScript({
      base: join(this.dir, `${container.name}.root`),
      mounts: this.#deps.mounts,
      volumes,
      hostname: this.pod.spec?.hostname ?? this.pod.metadata.name,
      resolvConf: join(this.dir, 'resolv.conf'),
      hosts: join(this.dir, 'hosts'),
      workingDir: container.workingDir ?? this.#deps.workingDir,
      user: own?.runAsUser ?? shared?.runAsUser,
      group: own?.runAsGroup ?? shared?.runAsGroup,
    });
    const spaces = ['unshare', '--mount', '--pid', '--uts', '--fork', '--kill-child', '--'];
    const file = join(this.dir, `${container.name}.sh`);
    await writeFile(file, script);
    return {
      argv: inNetns(sandbox.netns, [...spaces, 'sh', file, ...command]),
      env,
      logFile: join(this.dir, `${container.name}.log`),
    };
  }

  #context(sandbox: Sandbox): EnvironmentContext {
    return {
      pod: this.pod,
      place: { nodeName: this.node.name, hostIP: this.node.address, podIP: sandbox.podIP },
      configMap: (name) => this.#deps.configMap(this.pod.metadata.namespace, name),
    };
  }

  #token(): Promise<Token> {
    return this.#deps.token(this.pod, this.node.name);
  }

  /** Writes the volumes, and again when four fifths of the shortest token's life are over. */
  async #refreshVolumes(sandbox: Sandbox): Promise<void> {
    const { clock } = this.#deps;
    const expires = await writeVolumes({ ...this.#context(sandbox), dir: join(this.dir, 'volumes'), token: () => this.#token() });
    if (expires === undefined || this.#stop.signal.aborted) return;
    this.#renewAfter((expires - clock.now()) * 0.8, sandbox);
  }

  #renewAfter(ms: number, sandbox: Sandbox): void {
    const shortest = 5000;
    this.#renewal = this.#deps.clock.after(Math.max(ms, shortest), () => {
      this.#refreshVolumes(sandbox).catch(() => this.#renewAfter(shortest, sandbox));
    });
  }

  async #writeNameFiles(podIP: string): Promise<void> {
    const { namespace, name } = this.pod.metadata;
    const search = [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN].join(' ');
    await writeFile(join(this.dir, 'resolv.conf'), `search ${search}\nnameserver ${DNS_VIP}\noptions ndots:5\n`);
    await writeFile(join(this.dir, 'hosts'), `127.0.0.1 localhost\n::1 localhost\n${podIP} ${this.pod.spec?.hostname ?? name}\n`);
  }

  async #pause(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#deps.clock.after(ms, resolve);
    const wake = (): void => resolve();
    this.#stop.signal.addEventListener('abort', wake);
    await promise;
    this.#stop.signal.removeEventListener('abort', wake);
    timer.cancel();
  }
}
