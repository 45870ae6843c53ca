// TLS handshakes over node:tls for the portable backend, client and server, with one outcome: a verified peer or a MeshError that says
// who the peer is and why it failed.
import type { Duplex } from 'node:stream';
import type { DetailedPeerCertificate, SecureContext, TLSSocket } from 'node:tls';
import { formatHostPort, type HostPort } from '../address.ts';
import { MeshError } from '../errors.ts';
import type { PeerCertificate, TlsOptions } from '../reactor/api.ts';
import { nodeTls } from './node-tls.ts';
import type { Revocations } from './revocation.ts';
import { uriSans } from './verify.ts';

export interface Secured {
  readonly socket: TLSSocket;
  readonly peer: PeerCertificate;
}

const DEFAULT_TIMEOUT = 10_000;

/** What node:tls keeps for its own server and a bare TLSSocket has to ask for: the verdict on the peer's chain. */
interface ServerHandle {
  verifyError(): Error | null;
}

/** On failure the transport is destroyed too. */
export function clientHandshake(
  transport: Duplex,
  context: SecureContext,
  remote: HostPort,
  options: TlsOptions,
  revocations?: Revocations,
): Promise<Secured> {
  // Who the server is says its SPIFFE ID, so neither a server name nor node's own host name check has a part in it.
  const socket = nodeTls().connect({
    socket: transport,
    secureContext: context,
    ALPNProtocols: [...options.alpn],
    servername: '',
    // Whatever NODE_TLS_REJECT_UNAUTHORIZED says.
    rejectUnauthorized: true,
    checkServerIdentity: () => undefined,
  });
  return settle(socket, 'secureConnect', () => undefined, remote, options, revocations);
}

/** On failure the transport is destroyed too. */
export function serverHandshake(
  transport: Duplex,
  context: SecureContext,
  remote: HostPort,
  options: TlsOptions,
  revocations?: Revocations,
): Promise<Secured> {
  const socket = new (nodeTls().TLSSocket)(transport, {
    isServer: true,
    secureContext: context,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: [...options.alpn],
  });
  return settle(socket, 'secure', () => handleOf(socket).verifyError() ?? undefined, remote, options, revocations);
}

function settle(
  socket: TLSSocket,
  event: 'secure' | 'secureConnect',
  chainError: () => Error | undefined,
  remote: HostPort,
  options: TlsOptions,
  revocations: Revocations | undefined,
): Promise<Secured> {
  const timeout = options.timeout ?? DEFAULT_TIMEOUT;
  return new Promise((resolve, reject) => {
    let done = false;
    const fail = (error: MeshError): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      reject(error);
      socket.destroy();
    };
    const failed = (reason: string, cause?: unknown): void =>
      fail(new MeshError('tls_failure', `tls handshake error: ${formatHostPort(remote)}: ${reason}`, { cause }));
    const timer = setTimeout(() => failed(`not complete after ${timeout} ms`), timeout);
    // On a server, node:tls tells errors through this event alone; destroying with them brings all errors to one place.
    socket.on('_tlsError', (error: Error) => socket.destroy(error));
    socket.on('error', (error) => failed(reasonOf(error), error));
    const gone = (): void => failed('the peer closed the connection');
    socket.once('end', gone);
    socket.once('close', gone);
    const judge = (): void => {
      if (done) return;
      const verdict = chainError();
      if (verdict) return failed(reasonOf(verdict), verdict);
      try {
        const peer = peerOf(socket, revocations);
        options.verifyPeer(peer);
        done = true;
        clearTimeout(timer);
        resolve({ socket, peer });
      } catch (thrown) {
        fail(MeshError.from(thrown, 'tls_failure'));
      }
    };
    socket.once(event, () => {
      socket.pause();
      // From here on an end is a half-close, which the stream tells its reader.
      socket.removeListener('end', gone);
      // OpenSSL is still on the stack here: whoever destroyed the socket now would pull its state from under it.
      setImmediate(judge);
    });
  });
}

function peerOf(socket: TLSSocket, revocations: Revocations | undefined): PeerCertificate {
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) throw new MeshError('tls_failure', 'tls handshake error: the peer presented no certificate');
  const peer = { uris: uriSans(certificate.subjectAltName), serial: certificate.serialNumber };
  if (!revocations) return peer;
  const chain = chainOf(socket);
  const refusal = revocations.refusal(chain);
  if (refusal) throw refusal;
  return { ...peer, chain };
}

/** Up to the root, which node:tls adds to what the peer sent. */
function chainOf(socket: TLSSocket): Buffer[] {
  const chain: Buffer[] = [];
  let above: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (above) {
    chain.push(above.raw);
    above = above.issuerCertificate === above ? undefined : above.issuerCertificate;
  }
  return chain;
}

function reasonOf(error: Error): string {
  if ('reason' in error) return String(error.reason);
  return 'code' in error ? `${error.message} (${String(error.code)})` : error.message;
}

function handleOf(socket: TLSSocket): ServerHandle {
  return (socket as unknown as { _handle: ServerHandle })._handle;
}
