// A node as the CNI's tests need it: a network namespace in which the real agent runs as its own process, fed from a folder.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Test } from 'tap';
import { makeNetns } from './netns.ts';
import type { Netns } from './netns.ts';

const root = path.resolve(import.meta.dirname, '../..');
export const LAUNCHER = path.join(root, 'cni', 'culvert-cni');

export interface PluginResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export class TestNode {
  readonly dir: string;
  readonly netns: Netns;
  readonly runDir: string;
  readonly zdsPath: string;
  log = '';
  #agent: ChildProcess | undefined;

  constructor(t: Test) {
    this.netns = makeNetns(t);
    this.dir = mkdtempSync(path.join(tmpdir(), 'cni-test-'));
    this.runDir = path.join(this.dir, 'run');
    this.zdsPath = path.join(this.dir, 'zds', 'ztunnel.sock');
    for (const name of ['objects', 'status']) mkdirSync(path.join(this.dir, name));
    t.teardown(async () => {
      await this.stop('SIGKILL');
      rmSync(this.dir, { recursive: true, force: true });
      if (!t.passing()) t.comment(this.log);
    });
  }

  /** Writes an object; undefined removes it. */
  write(kind: string, namespace: string, name: string, object: Record<string, unknown> | undefined, folder = 'objects'): void {
    const file = path.join(this.dir, folder, `${kind}--${namespace || '_'}--${name}${folder === 'status' ? '.test' : ''}.yaml`);
    if (object === undefined) return rmSync(file, { force: true });
    writeFileSync(`${file}.tmp`, JSON.stringify(object));
    renameSync(`${file}.tmp`, file);
  }

  namespace(name: string, labels: Record<string, string> = {}): void {
    this.write('Namespace', '', name, { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  }

  /** A pod of this node; its uid is `uid-NAME`. */
  pod(namespace: string, name: string, metadata: Record<string, unknown> = {}, spec: Record<string, unknown> = {}): void {
    this.write('Pod', namespace, name, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, uid: `uid-${name}`, ...metadata },
      spec: { nodeName: 'node-1', serviceAccountName: 'sa', containers: [{ name: 'app', image: 'app' }], ...spec },
    });
  }

  /** What the agent wrote on a pod: `enabled`, `pending` or undefined. */
  redirection(namespace: string, name: string): string | undefined {
    const file = path.join(this.dir, 'status', `Pod--${namespace}--${name}.cni.yaml`);
    try {
      return /redirection: (\w+)/u.exec(readFileSync(file, 'utf8'))?.[1];
    } catch {
      return undefined;
    }
  }

  /** Starts the agent and waits until it is ready. */
  async start(env: Record<string, string> = {}): Promise<void> {
    const node = path.join(root, 'node_modules', '.bin', 'node');
    const agent = spawn('nsenter', [`--net=${this.netns.path}`, '--', node, path.join(root, 'cni/agent/main.ts')], {
      env: {
        PATH: process.env['PATH'] ?? '',
        ...(process.env['NODE_COMPILE_CACHE'] !== undefined && { NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] }),
        NODE_NAME: 'node-1',
        CNI_AGENT_RUN_DIR: this.runDir,
        ZTUNNEL_UDS_ADDRESS: this.zdsPath,
        OBJECT_DIRS: path.join(this.dir, 'objects'),
        STATUS_DIR: path.join(this.dir, 'status'),
        LOG_LEVEL: 'debug',
        LEAVE_MINIMUM: '500ms',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#agent = agent;
    const mark = this.log.length;
    for (const stream of [agent.stdout, agent.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (this.log += text));
    for (let tries = 0; !this.log.slice(mark).includes('\tready\t'); tries++) {
      if (agent.exitCode !== null || tries > 200) throw new Error(`the agent does not start:\n${this.log.slice(mark)}`);
      await setTimeout(50);
    }
  }

  /** Ends the agent; resolves with its exit code. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const agent = this.#agent;
    if (!agent || agent.exitCode !== null || agent.signalCode !== null) return agent?.exitCode ?? null;
    const ended = new Promise<number | null>((resolve) => agent.once('exit', resolve));
    agent.kill(signal);
    return ended;
  }

  /** GET of one of the agent's pages, asked from inside the node. */
  page(port: number, target: string): Promise<string> {
    return this.netns.run('curl', '-s', '--max-time', '5', `http://127.0.0.1:${port}${target}`);
  }

  /** Runs the plugin as a container runtime does. */
  plugin(command: string, options: PluginOptions = {}): Promise<PluginResult> {
    const { pod = '', namespace = 'shop', container = `c-${pod}`, netns = '', conf = {} } = options;
    return execPlugin(LAUNCHER, {
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: container,
        CNI_NETNS: netns,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/usr/lib/cni',
        CNI_ARGS: pod === '' ? '' : `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod};K8S_POD_UID=uid-${pod}`,
      },
      stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'test', type: 'culvert-cni', cni_agent_run_dir: this.runDir, ...conf }),
    });
  }
}

export interface PluginOptions {
  pod?: string;
  namespace?: string;
  container?: string;
  netns?: string;
  conf?: Record<string, unknown>;
}

/** A program fed as the CNI spec says: parameters in the environment, configuration on standard input. */
export function execPlugin(
  file: string,
  { env, stdin }: { env: Record<string, string>; stdin: string },
  args: readonly string[] = [],
): Promise<PluginResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env }, timeout: 20_000 });
    const result = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (result.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (result.stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...result }));
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}

/** Waits until the condition holds; rejects after `limit` ms. */
export async function eventually(what: string, condition: () => boolean | Promise<boolean>, limit = 10_000): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`did not happen: ${what}`);
    await setTimeout(50);
  }
}
