// Who calls: a bearer token or a client certificate of this mesh. The CA and the xDS server share it (facts: control plane 2.6).
import { X509Certificate } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { MeshError } from '#shared/errors.ts';
import { isSpiffeId, parseSpiffeId, spiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { TokenVerifier } from './token-issuer.ts';

/** A caller that proved who it is. */
export interface Caller {
  identity: SpiffeId;
  namespace: string;
  serviceAccount: string;
  /** What a token says of its holder; absent for a certificate. */
  pod?: { name: string; uid: string; nodeName: string };
}

/** The part of a gRPC call that shows its caller. */
export interface IncomingCall {
  metadata: Metadata;
  getAuthContext(): { sslPeerCertificate?: { raw?: Buffer } } | null;
}

export class Authenticator {
  #trustDomain: string;
  #tokens: TokenVerifier;

  constructor(trustDomain: string, tokens: TokenVerifier) {
    this.#trustDomain = trustDomain;
    this.#tokens = tokens;
  }

  /** A token goes before a certificate, as it tells pod and node too. Rejects with `policy_denied` and every reason. */
  async authenticate(call: IncomingCall): Promise<Caller> {
    const reasons: string[] = [];
    try {
      const caller = await this.#byToken(call.metadata);
      if (caller) return caller;
    } catch (error) {
      reasons.push(MeshError.from(error).message);
    }
    try {
      const caller = this.#byCertificate(call.getAuthContext()?.sslPeerCertificate?.raw);
      if (caller) return caller;
    } catch (error) {
      reasons.push(MeshError.from(error).message);
    }
    throw new MeshError(
      'policy_denied',
      reasons.join('; ') || 'neither a token (authorization: Bearer …) nor a client certificate was sent',
    );
  }

  async #byToken(metadata: Metadata): Promise<Caller | undefined> {
    const [header] = metadata.get('authorization');
    if (header === undefined) return undefined;
    const [, token] = /^bearer\s+(\S+)\s*$/iu.exec(String(header)) ?? [];
    if (token === undefined) throw new MeshError('policy_denied', 'the authorization header is not "Bearer TOKEN"');
    const { namespace, serviceAccount, podName, podUid, nodeName } = await this.#tokens.verify(token);
    const identity = spiffeId({ trustDomain: this.#trustDomain, namespace, serviceAccount });
    return { identity, namespace, serviceAccount, pod: { name: podName, uid: podUid, nodeName } };
  }

  /** TLS has verified the chain already; a peer whose chain did not hold has no certificate here. */
  #byCertificate(raw: Buffer | undefined): Caller | undefined {
    if (!raw) return undefined;
    const name = new X509Certificate(raw).subjectAltName ?? '';
    const uri = /^URI:(\S+)$/u.exec(name)?.[1] ?? '';
    const parts = parseSpiffeId(uri);
    if (!parts || !isSpiffeId(uri))
      throw new MeshError('policy_denied', `the client certificate's name "${name}" is not one SPIFFE ID`);
    if (parts.trustDomain !== this.#trustDomain)
      throw new MeshError(
        'policy_denied',
        `the client certificate is of trust domain ${parts.trustDomain}, not ${this.#trustDomain}`,
      );
    return { identity: uri, namespace: parts.namespace, serviceAccount: parts.serviceAccount };
  }
}
