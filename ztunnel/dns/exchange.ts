// One question to one name server, from inside a pod: the socket is opened in its network namespace and marked, so that the pod's own
// rules let it out. Each question has a socket of its own, hence a port that nobody can foresee.
import { createSocket } from 'node:dgram';
import { Socket } from 'node:net';
import type { HostPort } from '#shared/address.ts';
import { formatHostPort } from '#shared/address.ts';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { SocketOptions } from '#shared/reactor/api.ts';
import { bindUdp, clientTcp } from '#shared/os/socket-factory.ts';
import { MessageReader, framed } from './framing.ts';

export type Transport = 'udp' | 'tcp';

export interface Exchange {
  readonly server: HostPort;
  readonly message: Buffer;
  /** Whether a message that came is the answer; others are passed over. */
  readonly accepts: (message: Buffer) => boolean;
  readonly place: Pick<SocketOptions, 'netns' | 'mark'>;
  /** Milliseconds. */
  readonly timeout: number;
  readonly clock: Clock;
  /** Gives up, with its reason. */
  readonly over: AbortSignal;
}

/** Rejects with connect_timeout when no answer comes, connect_failed when none can, draining when it is given up. */
export async function exchange(transport: Transport, question: Exchange): Promise<Buffer> {
  if (question.over.aborted) throw givenUp(question);
  return transport === 'udp' ? await overUdp(question) : await overTcp(question);
}

function overUdp(question: Exchange): Promise<Buffer> {
  const { server, message, accepts, place } = question;
  const v6 = server.ip.includes(':');
  const { fd } = bindUdp({ ...place, address: { ip: v6 ? '::' : '0.0.0.0', port: 0 } });
  const socket = createSocket(v6 ? 'udp6' : 'udp4');
  return settled(
    question,
    () => socket.close(),
    (resolve, reject) => {
      socket.on('error', reject);
      socket.on('message', (reply) => {
        if (accepts(reply)) resolve(reply);
      });
      socket.bind({ fd }, () => {
        // Connected: the kernel keeps out what other hosts send, and tells when nobody is there.
        socket.connect(server.port, server.ip, () => {
          socket.send(message, (error) => {
            if (error) reject(error);
          });
        });
      });
    },
  );
}

function overTcp(question: Exchange): Promise<Buffer> {
  const { server, message, accepts, place } = question;
  const socket = new Socket({ fd: clientTcp({ ...place, to: server }) });
  return settled(
    question,
    () => socket.destroy(),
    (resolve, reject) => {
      const reader = new MessageReader((reply) => {
        if (accepts(reply)) resolve(reply);
        else reject(new Error('the answer is to another question'));
      });
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('closed before the answer')));
      socket.on('data', (chunk: Buffer) => reader.read(chunk));
      socket.connect({ host: server.ip, port: server.port }, () => socket.write(framed(message)));
    },
  );
}

/** Runs to the first of answer, error and end, and closes the socket with it. */
async function settled(
  question: Exchange,
  close: () => void,
  run: (resolve: (reply: Buffer) => void, reject: (error: Error) => void) => void,
): Promise<Buffer> {
  const { server, timeout, clock, over } = question;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const where = formatHostPort(server);
  const late = new MeshError('connect_timeout', `name server ${where}: no answer within ${timeout} ms`);
  const timer = clock.after(timeout, () => reject(late));
  const onOver = (): void => reject(givenUp(question));
  over.addEventListener('abort', onOver, { once: true });
  try {
    run(resolve, reject);
    return await promise;
  } catch (thrown) {
    if (thrown instanceof MeshError) throw thrown;
    throw new MeshError('connect_failed', `name server ${where}: ${MeshError.from(thrown).message}`, { cause: thrown });
  } finally {
    timer.cancel();
    over.removeEventListener('abort', onOver);
    close();
  }
}

function givenUp({ server }: Exchange): MeshError {
  return new MeshError('draining', `name server ${formatHostPort(server)}: the pod is not served any more`);
}
