// Listens on the wire between the nodes, as an eavesdropper would: a packet socket of tcpdump in the node's namespace.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';

export interface Wiretap {
  /** True as soon as the text went by within `seconds` (default 3). */
  saw(text: string, seconds?: number): Promise<boolean>;
  sawPort(port: number, seconds?: number): Promise<boolean>;
  stop(): void;
}

interface LabFile {
  nodes: { name: string; netns: string; uplink: string }[];
}

export async function wiretap(runDir: string, nodeName: string): Promise<Wiretap> {
  const lab = JSON.parse(readFileSync(path.join(runDir, 'lab.json'), 'utf8')) as LabFile;
  const node = lab.nodes.find(({ name }) => name === nodeName);
  if (!node) throw new Error(`lab.json has no node ${nodeName}`);
  const child = spawn('ip', ['netns', 'exec', node.netns, 'tcpdump', '-i', node.uplink, '-n', '-l', '-A', '-s', '0', 'tcp'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let heard = '';
  child.stdout.setEncoding('latin1').on('data', (chunk: string) => (heard += chunk));
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`tcpdump ended with code ${code}`)));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => chunk.includes('listening on') && resolve());
  });
  const within = async (seconds: number, holds: () => boolean): Promise<boolean> => {
    const end = performance.now() + seconds * 1000;
    while (!holds() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
    return holds();
  };
  return {
    saw: (text, seconds = 3) => within(seconds, () => heard.includes(text)),
    sawPort: (port, seconds = 3) => within(seconds, () => heard.includes(`.${port}:`) || heard.includes(`.${port} >`)),
    stop: () => void child.kill('SIGTERM'),
  };
}
