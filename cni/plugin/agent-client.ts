// The plugin's call to the agent: one HTTP request over the Unix socket in the run directory.
import { request } from 'node:http';
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
  return new Promise((resolve, reject) => {
    const unreachable = (reason: string): void =>
      reject(
        new CniError(
          CNI_CODE.tryAgainLater,
          `the CNI agent of this node did not answer: ${reason}`,
          `socket ${socketPath}, call ${call}; see whether the agent runs and is ready`,
        ),
      );
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const signal = AbortSignal.timeout(TIMEOUT);
    const http = request({ socketPath, method: 'POST', path: `/${call}`, headers, agent: false, signal }, (response) => {
      let answer = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (answer.length < MAX_ANSWER) answer += chunk;
      });
      response.on('error', (error) => unreachable(error.message));
      response.on('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new CniError(CNI_CODE.refused, answer.trim() || `status ${response.statusCode}`, `agent at ${socketPath}`));
      });
    });
    http.on('error', (error) => unreachable(signal.aborted ? `no answer within ${TIMEOUT} ms` : error.message));
    http.end(text);
  });
}
