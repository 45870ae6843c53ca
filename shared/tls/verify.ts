// Who the peer is: rules for TlsOptions.verifyPeer. They run after the chain was verified against the mesh's roots.
import { MeshError } from '../errors.ts';
import { parseSpiffeId, type SpiffeId } from '../ids.ts';
import type { PeerCertificate } from '../reactor/api.ts';

/** A client's rule: the server must present one of these identities, whole and with its trust domain. */
export function verifyServer(accepted: readonly SpiffeId[]): (peer: PeerCertificate) => void {
  return (peer) => {
    if (!peer.uris.some((uri) => accepted.some((id) => id === uri))) throw mismatch('SAN', accepted, peer);
  };
}

/** A server's rule: the client must present a SPIFFE ID of one of these trust domains. */
export function verifyTrustDomain(domains: readonly string[]): (peer: PeerCertificate) => void {
  return (peer) => {
    const inDomain = (uri: string): boolean => {
      const identity = parseSpiffeId(uri);
      return identity !== undefined && domains.includes(identity.trustDomain);
    };
    if (!peer.uris.some(inDomain)) throw mismatch('trustdomain', domains, peer);
  };
}

function mismatch(what: string, expected: readonly string[], peer: PeerCertificate): MeshError {
  const got = peer.uris.length === 0 ? 'no URI SAN' : peer.uris.join(', ');
  const message = `identity verification error: peer did not present the expected ${what} (${expected.join(', ')}), got ${got}`;
  return new MeshError('identity_mismatch', message);
}

/** The URI entries of X509Certificate.subjectAltName, where Node writes unusual values as JSON strings (`URI:"a, b"`). */
export function uriSans(subjectAltName: string | undefined): string[] {
  const uris: string[] = [];
  for (const [, type, quoted, plain] of (subjectAltName ?? '').matchAll(/([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^,]*))(?:, |$)/gu))
    if (type === 'URI') uris.push(quoted === undefined ? (plain ?? '') : String(JSON.parse(quoted)));
  return uris;
}
