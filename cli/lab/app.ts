// The lab: composes network, names, programs and pods, and takes them down again.
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { FolderSource } from '#shared/kube/folder-source.ts';
import { FolderWriter } from '#shared/kube/folder-writer.ts';
import { Informer } from '#shared/kube/informer.ts';
import type { ConfigMap, Pod } from '#shared/kube/kinds.ts';
import { formatFault } from '#shared/kube/object.ts';
import { bundlePrograms } from '../build/bundle.ts';
import { requestToken } from './control-plane.ts';
import { dnsTable } from './dns/answer.ts';
import type { DnsTable } from './dns/answer.ts';
import { startDns } from './dns/server.ts';
import type { DnsServer } from './dns/server.ts';
import { FaultReporter } from './fault-reporter.ts';
import { Kubelet } from './kubelet.ts';
import { MeshPrograms } from './mesh.ts';
import { createFabric } from './net/fabric.ts';
import { FABRIC_ADDRESS, FOLDER_ANNOTATION, planLab, SERVICE_CIDR, SYSTEM_NAMESPACE } from './plan.ts';
import type { LabPlan, NodePlan } from './plan.ts';
import { serviceAccount } from './pod/environment.ts';
import { rootMounts } from './pod/root-mounts.ts';
import type { RootMount } from './pod/root-mounts.ts';
import { PodRunner } from './pod/runner.ts';
import type { PodRunnerDeps } from './pod/runner.ts';
import { CNI_PLUGIN_DIRS } from './preflight.ts';
import { ServiceAddresses } from './service-addresses.ts';
import { ServiceProxy } from './service-proxy.ts';
import { StateFile } from './state-file.ts';
import { sweepLab } from './sweep.ts';
import { culvertImage } from './system.ts';
import type { SystemContext, ZtunnelOverride } from './system.ts';
import { isReady } from './endpoints.ts';

export interface LabOptions {
  runDir: string;
  /** The user's objects. */
  folder: string;
  /** Default: as many as the folder has Node objects, else 2. */
  nodes?: number | undefined;
  programs: 'ambient' | 'controlplane' | 'none';
  /** Of the repository or the installed package. */
  root: string;
  clock: Clock;
  progress: (line: string) => void;
  ztunnel?: ZtunnelOverride | undefined;
}

/** ConfigMaps with the root certificate, which Istio's controllers put into every namespace. */
const ROOT_CERT_MAPS = new Set(['istio-ca-root-cert', 'culvert-ca-root-cert']);

/** Any long time, ms. */
const ALIVE = 3_600_000;

export class Lab {
  #options: LabOptions;
  #informer: Informer;
  #writer: FolderWriter;
  #kubelet: Kubelet | undefined;
  #mesh: MeshPrograms | undefined;
  #proxy: ServiceProxy | undefined;
  #dns: DnsServer | undefined;
  #faults: FaultReporter;
  #names: DnsTable = new Map();
  #addresses = new ServiceAddresses();
  #state: StateFile | undefined;
  #mounts: readonly RootMount[] = [];
  #starting: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #alive: NodeJS.Timeout | undefined;

  constructor(options: LabOptions) {
    this.#options = options;
    this.#faults = new FaultReporter(options.runDir, options.clock, (line) => options.progress(`! ${line}`));
    const objects = join(options.runDir, 'objects');
    const statusFolder = join(options.runDir, 'status');
    this.#informer = new Informer(new FolderSource({ folders: [options.folder, objects], statusFolder }));
    this.#writer = new FolderWriter({ folder: objects, statusFolder, writer: 'kubelet' });
  }

  /** Resolves when the network, the mesh and the kubelet run. What fails undoes nothing: call close(). */
  start(): Promise<void> {
    // The clock's timers keep no process alive, and a lab must not end before it has cleaned up.
    this.#alive = setInterval(() => {}, ALIVE);
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { runDir, progress, clock } = this.#options;
    for (const folder of ['objects', 'status', 'controlplane', 'nodes', 'pods'])
      await mkdir(join(runDir, folder), { recursive: true });
    this.#informer.onFaults((faults) => this.#faults.report('files', faults.map(formatFault)));
    await this.#informer.start();
    const plan = planLab(runDir, this.#nodeNames());
    for (const node of plan.nodes) await mkdir(node.dir, { recursive: true });
    this.#mesh = new MeshPrograms({
      ...this.#systemContext(plan),
      clock,
      programs: this.#options.programs,
      onChange: () => this.#save(),
      progress,
    });
    this.#state = new StateFile({
      plan,
      folder: this.#options.folder,
      mesh: this.#mesh,
      runners: () => this.#kubelet?.runners() ?? [],
      clock,
    });
    await this.#state.start();
    this.#stillWanted();
    await Promise.all([createFabric(plan), bundlePrograms(this.#options.root)]);
    this.#stillWanted();
    this.#dns = startDns(plan.fabricNetns, FABRIC_ADDRESS, () => this.#names);
    progress(`network         ${plan.nodes.length} nodes, pods in 10.244.0.0/16, services in ${SERVICE_CIDR}`);
    await this.#writeOwnObjects(plan);
    await this.#mesh.start();
    this.#stillWanted();
    this.#mounts = rootMounts(await readFile('/proc/self/mountinfo', 'utf8'), [runDir, '/run/netns']);
    this.#kubelet = this.#newKubelet(plan);
    this.#proxy = new ServiceProxy(plan, (message) => progress(`! ${message}`));
    this.#informer.onChange(() => this.#sync());
    this.#sync();
    await this.#proxy.settled();
    this.#state.phase = 'ready';
    await this.#state.save();
  }

  /** Ready pods and all pods. */
  podCount(): { ready: number; total: number } {
    const pods = this.#informer.list('Pod');
    return { ready: pods.filter((pod) => isReady(pod) || pod.status?.phase === 'Succeeded').length, total: pods.length };
  }

  /** Takes everything down and removes the run directory. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#state) this.#state.phase = 'stopping';
    this.#informer.close();
    this.#faults[Symbol.dispose]();
    await this.#kubelet?.close();
    await this.#mesh?.close();
    // What was being made when the end came is finished, then removed with the rest.
    await this.#starting.catch(() => {});
    this.#dns?.close();
    await this.#proxy?.settled();
    await this.#state?.close();
    await sweepLab(this.#options.runDir, { keepLab: true });
    clearInterval(this.#alive);
  }

  #stillWanted(): void {
    if (this.#closing) throw new MeshError('draining', 'the lab is going down');
  }

  #sync(): void {
    if (this.#closing) return;
    const services = sorted(this.#informer.list('Service'));
    const pods = sorted(this.#informer.list('Pod'));
    for (const [key, address] of this.#addresses.update(services))
      void this.#writer.overlay(key, address === undefined ? undefined : { spec: { clusterIP: address, clusterIPs: [address] } });
    this.#names = dnsTable(services, pods);
    this.#proxy?.update(services, pods);
    this.#kubelet?.sync(pods);
    if (this.#options.programs !== 'none') this.#faults.changed();
  }

  #save(): void {
    void this.#state?.save();
  }

  #newKubelet(plan: LabPlan): Kubelet {
    const kubelet: Kubelet = new Kubelet({
      plan,
      writer: this.#writer,
      newRunner: (pod, node) => {
        const runner: PodRunner = new PodRunner(pod, {
          ...this.#podDeps(pod, plan, node),
          onChange: () => kubelet.report(runner),
        });
        return runner;
      },
      nodeLabels: (name) => {
        const node = this.#informer.get('Node', '', name);
        return { labels: node?.metadata.labels ?? {}, unschedulable: node?.spec?.unschedulable === true };
      },
      onChange: () => this.#save(),
      warn: (message) => this.#options.progress(`! ${message}`),
    });
    return kubelet;
  }

  #podDeps(pod: Pod, plan: LabPlan, node: NodePlan): Omit<PodRunnerDeps, 'onChange'> {
    const { root, clock, folder } = this.#options;
    return {
      plan,
      node,
      clock,
      mounts: this.#mounts,
      baseEnv: podEnv(root),
      workingDir: pod.metadata.annotations?.[FOLDER_ANNOTATION] ?? folder,
      network: {
        name: 'culvert',
        nodeNetns: node.netns,
        path: [join(root, 'cni'), ...CNI_PLUGIN_DIRS],
        plugins: this.#cniPlugins(node),
      },
      culvertImage: (args) => culvertImage(root, args),
      configMap: (namespace, name) => this.#configMap(namespace, name),
      token: (pod, nodeName) => this.#token(pod, nodeName),
    };
  }

  #cniPlugins(node: NodePlan): { type: string; [field: string]: unknown }[] {
    const bridge = {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      hairpinMode: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: node.podCidr, gateway: node.gateway }]],
        routes: [{ dst: '0.0.0.0/0' }],
        dataDir: join(node.dir, 'ipam'),
      },
    };
    if (this.#options.programs !== 'ambient') return [bridge];
    return [bridge, { type: 'culvert-cni', cni_agent_run_dir: node.dir, exclude_namespaces: [SYSTEM_NAMESPACE] }];
  }

  #configMap(namespace: string, name: string): ConfigMap | undefined {
    const found = this.#informer.get('ConfigMap', namespace, name);
    if (found || !ROOT_CERT_MAPS.has(name)) return found;
    return this.#state?.rootCert === undefined
      ? undefined
      : { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data: { 'root-cert.pem': this.#state.rootCert } };
  }

  #token(pod: Pod, nodeName: string): ReturnType<typeof requestToken> {
    if (this.#options.programs === 'none')
      throw new MeshError('missing_capability', 'a lab without a control plane gives no tokens');
    const { namespace, name, uid = '' } = pod.metadata;
    return requestToken(this.#options.runDir, {
      namespace,
      serviceAccount: serviceAccount(pod),
      podName: name,
      podUid: uid,
      nodeName,
    });
  }

  #nodeNames(): string[] {
    const own = sorted(this.#informer.list('Node')).map(({ metadata }) => metadata.name);
    const { nodes = own.length === 0 ? 2 : own.length } = this.#options;
    return Array.from({ length: nodes }, (_, index) => own[index] ?? `node-${index + 1}`);
  }

  /** What a cluster has by itself: its Nodes, and the namespaces that always exist. */
  async #writeOwnObjects(plan: LabPlan): Promise<void> {
    for (const name of ['default', SYSTEM_NAMESPACE])
      if (!this.#informer.get('Namespace', '', name))
        await this.#writer.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, namespace: '' } });
    for (const { name, address, podCidr } of plan.nodes) {
      const labels = { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' };
      if (!this.#informer.get('Node', '', name))
        await this.#writer.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name, namespace: '', labels } });
      await this.#writer.overlay(`Node//${name}`, {
        metadata: { labels },
        spec: { podCIDR: podCidr, podCIDRs: [podCidr] },
        status: { addresses: [{ type: 'InternalIP', address }], conditions: [{ type: 'Ready', status: 'True' }] },
      });
    }
  }

  #systemContext(plan: LabPlan): SystemContext {
    const { root, folder, runDir, ztunnel } = this.#options;
    const objectDirs = [folder, join(runDir, 'objects')];
    return { plan, root, objectDirs, statusDir: join(runDir, 'status'), baseEnv: podEnv(root), ztunnel };
  }
}

/** PATH with the Node that runs this first, so that `node` in a pod's command is it. */
function podEnv(root: string): Record<string, string> {
  const path = process.env['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return {
    PATH: `${dirname(process.execPath)}:${path}`,
    HOME: process.env['HOME'] ?? '/root',
    LANG: 'C.UTF-8',
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? join(root, 'node_modules', '.cache', 'compile'),
  };
}

function sorted<T extends { metadata: { namespace: string; name: string } }>(objects: T[]): T[] {
  const key = ({ metadata }: T): string => `${metadata.namespace}/${metadata.name}`;
  return objects.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}
