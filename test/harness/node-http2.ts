// Node's own TLS and HTTP/2 as peers of a ztunnel: what they say of versions, settings and connections is not our code's word.
import { once } from 'node:events';
import type { ClientHttp2Session, ServerHttp2Session, ServerHttp2Stream, Settings } from 'node:http2';
import { connect as http2Connect, createSecureServer } from 'node:http2';
import type { Socket } from 'node:net';
import { connect as tlsConnect, type TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { TestPod } from './pod-net.ts';

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

const HBONE = 15_008;

function tlsOptions({ chain, key, roots }: WorkloadCertificate, maxVersion: TlsVersion) {
  return { cert: chain, key, ca: roots, maxVersion, ALPNProtocols: ['h2'] };
}

/** TLS from the pod to port 15008 of another; rejects with what TLS says. */
export async function dialTls(
  pod: TestPod,
  ip: string,
  certificate: WorkloadCertificate,
  maxVersion: TlsVersion = 'TLSv1.3',
): Promise<TLSSocket> {
  const socket = pod.dial({ ip, port: HBONE });
  // Names of hosts are of no account here.
  const tls = tlsConnect({ ...tlsOptions(certificate, maxVersion), socket, checkServerIdentity: () => undefined });
  await once(tls, 'secureConnect');
  return tls;
}

/** HTTP/2 over it; ends with the test. */
export function sessionOver(t: Pick<Test, 'teardown'>, socket: TLSSocket): ClientHttp2Session {
  const session = http2Connect('https://peer', { createConnection: () => socket });
  session.on('error', () => undefined);
  t.teardown(() => session.destroy());
  return session;
}

export interface Http2Server {
  /** Connections that got through TLS, oldest first; also those that have ended. */
  readonly sockets: TLSSocket[];
  readonly sessions: ServerHttp2Session[];
  /** What is below TLS, oldest first. */
  readonly raw: Socket[];
  /** Tunnels, oldest first. */
  readonly streams: ServerHttp2Stream[];
}

function echo(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200 });
  stream.pipe(stream);
}

/** Serves port 15008 of the pod: every tunnel is an echo, unless `serve` says otherwise. */
export async function serveHttp2(
  t: Pick<Test, 'teardown'>,
  pod: TestPod,
  certificate: WorkloadCertificate,
  maxVersion: TlsVersion = 'TLSv1.3',
  { serve = echo, settings = {} }: { serve?: (stream: ServerHttp2Stream) => void; settings?: Settings } = {},
): Promise<Http2Server> {
  const server = createSecureServer({ ...tlsOptions(certificate, maxVersion), requestCert: true, settings });
  const sockets: TLSSocket[] = [];
  const sessions: ServerHttp2Session[] = [];
  const streams: ServerHttp2Stream[] = [];
  server.on('secureConnection', (socket) => void sockets.push(socket));
  server.on('session', (session) => void sessions.push(session));
  server.on('stream', (stream: ServerHttp2Stream) => {
    streams.push(stream);
    stream.on('error', () => undefined);
    serve(stream);
  });
  const raw: Socket[] = [];
  const accept = (socket: Socket): void => {
    raw.push(socket);
    server.emit('connection', socket);
  };
  await pod.serve(accept, HBONE);
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  return { sockets, sessions, raw, streams };
}
