// The plugin's call to the agent: one HTTP request over the Unix socket in the run directory. HTTP/1.0, where an answer ends with
// its connection, is so little that it is written here: loading node:http would more than double the start of a plugin.
import { connect } from 'node:net';
import { CNI_CODE, CniError } from './spec.ts';

/** What the agent is told about a sandbox. The names are Istio's, whose plugin can talk to our agent. */
export interface PluginEvent {
  Netns: string;
  PodName: string;
  PodNamespace: string;
  PodUID?: string;
  ContainerID?: string;
  IPs: { Address: { IP: string } }[];
}

export type AgentCall = 'cmdadd' | 'cmddel' | 'cmdcheck' | 'cmdgc' | 'status';

/** Milliseconds; the kubelet tries again later. */
const TIMEOUT = 5000;
const MAX_ANSWER = 64 * 1024;

/** Resolves when the agent agreed. Rejects with `refused` and the agent's reason, or `tryAgainLater` when it cannot be reached. */
export function callAgent(runDir: string, call: AgentCall, body: unknown): Promise<void> {
  const socketPath = `${runDir}/pluginevent.sock`;
  const text = JSON.stringify(body);
  const head = `POST /${call} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n`;
  return new Promise((resolve, reject) => {
    const unreachable = (reason: string): void =>
      reject(
        new CniError(
          CNI_CODE.tryAgainLater,
          `the CNI agent of this node did not answer: ${reason}`,
          `socket ${socketPath}, call ${call}; see whether the agent runs and is ready`,
        ),
      );
    let answer = '';
    const socket = connect(socketPath, () => socket.write(head + text));
    const timer = setTimeout(() => {
      unreachable(`no answer within ${TIMEOUT} ms`);
      socket.destroy();
    }, TIMEOUT);
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      if (answer.length < MAX_ANSWER) answer += chunk;
    });
    socket.on('error', (error) => unreachable(error.message));
    socket.on('close', () => {
      clearTimeout(timer);
      const [, status, reason = ''] = /^HTTP\/1\.\d (\d{3})[^]*?\r\n\r\n([^]*)$/u.exec(answer) ?? [];
      if (status === undefined) unreachable('it closed the connection without an answer');
      else if (status === '200') resolve();
      else reject(new CniError(CNI_CODE.refused, reason.trim() || `status ${status}`, `agent at ${socketPath}`));
    });
  });
}
