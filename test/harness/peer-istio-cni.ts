// A real istio-cni node agent that is named by the environment (test/ztunnel/peer-istio-cni.test.ts), where the wire of a lab is: that
// namespace is its node. Pods are objects of a Kubernetes API, which a test makes in a namespace of its own there, and namespaces here.
//   PEER_ISTIO_CNI            the binary of the agent, install-cni
//   PEER_ISTIO_CNI_KUBECONFIG a user who may make namespaces and pods, and write what the kubelet and the agent write of them
// Programs of this machine that it calls: iptables, ipset.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { CoreV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { listenTcp } from '#shared/os/socket-factory.ts';
import type { Workload } from '../../ztunnel/state/model.ts';
import { eventually } from './mesh-lab.ts';
import type { PodNet, TestPod } from './pod-net.ts';

const { PEER_ISTIO_CNI, PEER_ISTIO_CNI_KUBECONFIG = '' } = process.env;

export const needsIstioCni =
  (PEER_ISTIO_CNI === undefined && 'PEER_ISTIO_CNI names no binary') ||
  (PEER_ISTIO_CNI_KUBECONFIG === '' && 'PEER_ISTIO_CNI_KUBECONFIG is not set');

export const AMBIENT = 'istio.io/dataplane-mode';
const SELECTOR = JSON.stringify([{ namespaceSelector: { matchLabels: { [AMBIENT]: 'ambient' } } }]);

/** A root folder as the agent's container has it. Process 1 of its host is itself: whose network it is in is the node's. */
const CONTAINER = `set -e; agent=$2; mount -t tmpfs tmpfs "$1"; cd "$1"
for d in /*; do case $d in /run|/var|/opt|/host) ;; *)
  if [ -L "$d" ]; then cp -P "$d" .; elif [ -d "$d" ]; then mkdir ".$d"; mount --rbind "$d" ".$d"; fi;; esac; done
mkdir -p run/netns run/secrets/kubernetes.io/serviceaccount var opt/cni/bin host/proc host/run/netns host/opt/cni/bin host/etc/cni/net.d
ln -s ../run var/run; ln -s run host/var; mkdir host/run/run; ln -s ../netns host/run/run/netns
mount --rbind /proc host/proc; mount --bind /proc/$$ host/proc/1
for d in run host/run; do mount --rbind /run/netns $d/netns; done
echo none > run/secrets/kubernetes.io/serviceaccount/token
touch agent; mount --bind "$agent" agent; exec chroot . /agent`;

/** The node's address on the wire; the source of the kubelet's probes is another. */
export const NODE_IP = '10.0.255.254';

export class IstioCni {
  readonly zds: string;
  readonly #t: Pick<Test, 'teardown'>;
  readonly #net: PodNet;
  readonly #dir: string;
  #kill: () => Promise<void> = async () => undefined;
  #log = '';

  constructor(t: Pick<Test, 'teardown'>, net: PodNet) {
    this.#t = t;
    this.#net = net;
    this.#dir = mkdtempSync(join(tmpdir(), 'culvert-istio-cni-'));
    this.zds = join(this.#dir, 'zds.sock');
    net.fabric.exec('ip', 'addr', 'add', `${NODE_IP}/16`, 'dev', 'br0');
    t.teardown(async () => {
      await this.kill();
      rmSync(this.#dir, { recursive: true });
    });
  }

  /** Resolves once it takes sessions. */
  async start(node: string): Promise<void> {
    const root = join(this.#dir, 'root');
    mkdirSync(root, { recursive: true });
    const port = await this.#lineToKubernetes();
    const env = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      NODE_NAME: node,
      KUBECONFIG: join(this.#dir, 'kubeconfig'),
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(port),
      SKIP_TLS_VERIFY: 'true',
      AMBIENT_ENABLED: 'true',
      AMBIENT_ENABLEMENT_SELECTOR: SELECTOR,
      AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: 'true',
      FORCE_IPTABLES_BINARY: 'nft',
      CNI_AGENT_RUN_DIR: this.#dir,
      ZTUNNEL_UDS_ADDRESS: this.zds,
      REPAIR_ENABLED: 'false',
    };
    const container = ['unshare', '-m', '--propagation', 'slave', 'sh', '-c', CONTAINER, 'sh', root, PEER_ISTIO_CNI ?? ''];
    const child = spawn('ip', ['netns', 'exec', this.#net.fabric.name, ...container], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const exit = once(child, 'exit');
    this.#kill = async () => {
      child.kill('SIGKILL');
      await exit;
    };
    this.#log = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (this.#log += chunk.toString()));
    const ended = exit.then(() => Promise.reject(new Error(`the agent has ended: ${this.#log.slice(-1000)}`)));
    ended.catch(() => undefined);
    await Promise.race([eventually('the agent', () => this.#log.includes('ambient server marking ready') || undefined), ended]);
  }

  /** At once; what it made stays. */
  kill(): Promise<void> {
    return this.#kill();
  }

  /** What the plugin does for a new pod, again and again, as the kubelet has it, until the agent has heard of the pod; its answer. */
  add(pod: TestPod, namespace: string): Promise<string> {
    return eventually('an agent that knows the pod', async () => {
      const answer = await this.#add(pod, namespace);
      return answer.startsWith('500 failed to get pod') ? undefined : answer;
    });
  }

  async #add({ name, ip, netns }: TestPod, namespace: string): Promise<string> {
    const address = { IP: ip, Mask: Buffer.from([255, 255, 0, 0]).toString('base64') };
    const event = { Netns: `/var/run/netns/${netns.name}`, PodName: name, PodNamespace: namespace, IPs: [{ Address: address }] };
    const call = request({ socketPath: join(this.#dir, 'pluginevent.sock'), path: '/cmdadd', method: 'POST' });
    call.setHeader('content-type', 'application/json').end(JSON.stringify(event));
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    return `${answer.statusCode} ${await text(answer)}`.trim();
  }

  /** The agent cannot see this machine's loopback: it gets a port of its own for the API. */
  async #lineToKubernetes(): Promise<number> {
    const config = parse(readFileSync(PEER_ISTIO_CNI_KUBECONFIG, 'utf8'));
    const [{ cluster }] = config.clusters;
    const to = new URL(cluster.server);
    const { fd, address } = listenTcp({ netns: this.#net.fabric.fd, address: { ip: '127.0.0.1', port: 0 } });
    const line = createServer((socket) => {
      const onward = connect({ host: to.hostname, port: Number(to.port) || 443 });
      for (const end of [socket, onward])
        end.on('error', () => undefined).on('close', () => [socket, onward].map((one) => one.destroy()));
      socket.pipe(onward).pipe(socket);
    });
    line.listen({ fd });
    await once(line, 'listening');
    this.#t.teardown(() => line.close());
    Object.assign(cluster, { 'tls-server-name': to.hostname, server: `https://127.0.0.1:${address.port}` });
    writeFileSync(join(this.#dir, 'kubeconfig'), stringify(config));
    return address.port;
  }
}

/** A namespace is gone only a while after it was deleted: none has the name of another. */
let namespaces = 0;

/** A namespace of the Kubernetes API, gone when the test ends, with the kubelet's part in its pods. */
export class ClusterNamespace {
  readonly name: string;
  readonly #t: Pick<Test, 'teardown'>;
  readonly #api: CoreV1Api;

  constructor(t: Pick<Test, 'teardown'>) {
    this.name = `culvert-test-${process.pid}-${++namespaces}`;
    const config = new KubeConfig();
    config.loadFromFile(PEER_ISTIO_CNI_KUBECONFIG);
    this.#t = t;
    this.#api = config.makeApiClient(CoreV1Api);
  }

  async create(): Promise<void> {
    await this.#api.createNamespace({ body: { metadata: { name: this.name, labels: { [AMBIENT]: 'ambient' } } } });
    this.#t.teardown(() => this.#api.deleteNamespace({ name: this.name }));
  }

  async label(value: string | null): Promise<void> {
    const body = { metadata: { labels: { [AMBIENT]: value } } };
    await this.#api.patchNamespace({ name: this.name, body }, MERGE);
  }

  /** The object of a pod that has no container yet. Resolves with its uid. */
  async pod({ name, node, serviceAccount }: Workload): Promise<string> {
    const { name: namespace } = this;
    await this.#api.createNamespacedServiceAccount({ namespace, body: { metadata: { name: serviceAccount } } });
    const spec = { nodeName: node, serviceAccountName: serviceAccount, containers: [{ name: 'app', image: 'none' }] };
    const { metadata } = await this.#api.createNamespacedPod({ namespace, body: { metadata: { name }, spec } });
    return metadata?.uid ?? '';
  }

  /** Its containers run: a process that sleeps in its network, in a control group as a kubelet names them, where the agent looks for it. */
  async run({ name, ip, netns }: TestPod, uid: string): Promise<void> {
    const root = ['unified', 'systemd', '.']
      .map((one) => join('/sys/fs/cgroup', one))
      .find((one) => existsSync(join(one, 'cgroup.procs')));
    const group = join(root ?? '', `kubepods-pod${uid}-${uid.replaceAll('-', '')}`);
    mkdirSync(group);
    const script = `echo $$ > ${group}/cgroup.procs; exec ip netns exec ${netns.name} sleep infinity`;
    const pause = spawn('sh', ['-c', script], { stdio: 'ignore' });
    this.#t.teardown(async () => {
      pause.kill('SIGKILL');
      await once(pause, 'exit');
      rmdirSync(group);
    });
    const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] };
    await this.#api.patchNamespacedPodStatus({ name, namespace: this.name, body: { status } }, MERGE);
  }

  async remove(name: string): Promise<void> {
    await this.#api.deleteNamespacedPod({ name, namespace: this.name, gracePeriodSeconds: 0 });
  }

  /** What the agent says of it. */
  async redirection(name: string): Promise<string | undefined> {
    const { metadata } = await this.#api.readNamespacedPod({ name, namespace: this.name });
    return metadata?.annotations?.['ambient.istio.io/redirection'];
  }
}

const MERGE = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
