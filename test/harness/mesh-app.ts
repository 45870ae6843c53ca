// The application of the mesh's end-to-end tests in a lab: test/fixtures/mesh-app, started, and asked from its own pods.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually, ROOT, startLab, type LabHarness } from './lab.ts';

const FIXTURE = join(ROOT, 'test', 'fixtures', 'mesh-app');

export interface MeshApp {
  lab: LabHarness;
  /** Body of a GET of HOST[/PATH], or `exit N` when curl failed. */
  ask(from: string, host: string, ...curl: string[]): Promise<string>;
  /** Runs client.mjs in the pod and returns its last line. */
  client(from: string, ...args: string[]): Promise<Record<string, unknown>>;
  ip(pod: string): Promise<string>;
  /** Access log lines of a node's ztunnel. */
  accessLog(node: string): Promise<string[]>;
}

interface Teardown {
  teardown(run: () => Promise<void>): void;
}

const namespaceOf = (pod: string): string => (pod.startsWith('plain') ? 'outside' : 'inside');

export async function startMeshApp(t: Teardown, replace: (objects: string) => string = (text) => text): Promise<MeshApp> {
  const read = (file: string): Promise<string> => readFile(join(FIXTURE, file), 'utf8');
  const lab = await startLab(t, {
    files: {
      'objects.yaml': replace(await read('objects.yaml')),
      'server.mjs': await read('server.mjs'),
      'client.mjs': await read('client.mjs'),
    },
  });
  const exec = (pod: string, command: string[]): ReturnType<LabHarness['exec']> => lab.exec(namespaceOf(pod), pod, command);
  return {
    lab,
    async ask(from, host, ...curl) {
      const outcome = await exec(from, ['curl', '-sS', '-m', '5', ...curl, `http://${host}`]);
      return outcome.code === 0 ? outcome.stdout.trim() : `exit ${outcome.code}`;
    },
    async client(from, ...args) {
      const outcome = await exec(from, ['node', 'client.mjs', ...args]);
      if (outcome.code !== 0) throw new Error(`client.mjs ${args.join(' ')} in ${from}: exit ${outcome.code}: ${outcome.stderr}`);
      return JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    },
    async ip(pod) {
      const text = await lab.must(['get', 'pod', pod, '-n', namespaceOf(pod), '-o', 'json']);
      return (JSON.parse(text) as { status: { podIP: string } }).status.podIP;
    },
    async accessLog(node) {
      const text = await readFile(join(lab.runDir, 'nodes', node, 'ztunnel.log'), 'utf8');
      return text.split('\n').filter((line) => line.includes('connection complete'));
    },
  };
}

/** Waits until a line of the log has every text. */
export function logged(app: MeshApp, node: string, ...texts: string[]): Promise<string | undefined> {
  return eventually(
    async () => (await app.accessLog(node)).find((line) => texts.every((text) => line.includes(text))),
    (line) => line !== undefined,
    5000,
  );
}
