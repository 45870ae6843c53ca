// The admin server of a node's ztunnel: it listens on the loopback address of the node's namespace only.
import { Agent, request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { MeshError } from '#shared/errors.ts';
import { PORT } from '#shared/ports.ts';
import { dialIn } from './lab/net/socket.ts';

const TIMEOUT = 5000;

/** The body of a GET on 127.0.0.1:15000 in that network namespace. */
export async function adminGet(netns: string, path: string): Promise<string> {
  const to = { ip: '127.0.0.1', port: PORT.admin };
  const agent = new Agent();
  agent.createConnection = () => dialIn({ netns, to });
  const sent = request({ agent, path, host: to.ip, port: to.port, headers: { connection: 'close' }, timeout: TIMEOUT });
  sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT} ms`)));
  sent.end();
  let response: IncomingMessage;
  try {
    [response] = (await once(sent, 'response')) as [IncomingMessage];
  } catch (error) {
    throw new MeshError('connect_failed', `the admin server in ${netns} does not answer: ${MeshError.from(error).message}`, {
      cause: error,
    });
  }
  const body = await text(response);
  if (response.statusCode === 200) return body;
  if (response.statusCode === 400 || response.statusCode === 404) throw new MeshError('not_found', body.trim());
  throw new MeshError(
    'internal',
    `the admin server in ${netns} answered ${path} with ${response.statusCode ?? 0}: ${body.trim().slice(0, 200)}`,
  );
}
