// Calls to the control plane's own socket: tokens, as a kubelet asks the API server for them, and readiness.
import { request } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { MeshError } from '#shared/errors.ts';
import type { Token } from './pod/volumes.ts';

export interface TokenRequest {
  namespace: string;
  serviceAccount: string;
  podName: string;
  podUid: string;
  nodeName: string;
}

const TIMEOUT = 5000;

/** `admin.sock` below the control plane's state directory. */
export function adminSocket(runDir: string): string {
  return join(runDir, 'controlplane', 'admin.sock');
}

export async function requestToken(runDir: string, wanted: TokenRequest): Promise<Token> {
  const answer = JSON.parse(await call(runDir, 'POST', '/token', JSON.stringify(wanted))) as { token: string; expires: unknown };
  const { expires } = answer;
  // Milliseconds, seconds or a date: whichever form, the lab counts in milliseconds.
  const at = typeof expires === 'number' ? (expires < 1e11 ? expires * 1000 : expires) : Date.parse(String(expires));
  if (typeof answer.token !== 'string' || !Number.isFinite(at))
    throw new MeshError('internal', 'the control plane answered a token request without token or expiry');
  return { token: answer.token, expires: at };
}

/** The body of a GET, such as `/debug/syncz`. */
export function controlPlaneGet(runDir: string, path: string): Promise<string> {
  return call(runDir, 'GET', path);
}

async function call(runDir: string, method: string, path: string, body?: string): Promise<string> {
  const sent = request({
    socketPath: adminSocket(runDir),
    method,
    path,
    timeout: TIMEOUT,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
  });
  sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT} ms`)));
  sent.end(body);
  let response: IncomingMessage;
  try {
    [response] = (await once(sent, 'response')) as [IncomingMessage];
  } catch (error) {
    throw new MeshError('connect_failed', `the control plane does not answer: ${MeshError.from(error).message}`, {
      cause: error,
    });
  }
  const answer = await text(response);
  if (response.statusCode === 200) return answer;
  throw new MeshError(
    'internal',
    `the control plane answered ${path} with ${response.statusCode ?? 0}: ${answer.trim().slice(0, 300)}`,
  );
}
