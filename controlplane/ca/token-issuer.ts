// Service account tokens of a mesh without an API server: the same claims as Kubernetes' TokenRequest gives, signed with a key in
// the state directory. The kubelet's part (who asks for which pod) is played by the lab over the admin socket.
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { jwtVerify, SignJWT } from 'jose';
import type { JWTPayload } from 'jose';
import type { Clock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import { readOrCreate } from './state-file.ts';

export interface TokenSubject {
  namespace: string;
  serviceAccount: string;
  podName: string;
  podUid: string;
  nodeName: string;
}

/** Milliseconds since the epoch. */
export interface IssuedToken {
  token: string;
  expires: number;
}

/** What the CA and xDS servers need of a token, whoever signed it (this key, or an API server's TokenReview). */
export interface TokenVerifier {
  /** Rejects with `policy_denied` and the reason. */
  verify(token: string): Promise<TokenSubject>;
}

export const AUDIENCE = 'istio-ca';
const ISSUER = 'culvert';
const TTL = 12 * 3_600_000;
/** Seconds. */
const CLOCK_TOLERANCE = 10;
const MAX_TOKEN = 8 * 1024;

export class TokenIssuer implements TokenVerifier {
  #key: KeyObject;
  #publicKey: KeyObject;
  #clock: Clock;

  constructor(key: KeyObject, clock: Clock) {
    this.#key = key;
    this.#publicKey = createPublicKey(key);
    this.#clock = clock;
  }

  /** With the key in `stateDir`, made on first use. */
  static async load(stateDir: string, clock: Clock): Promise<TokenIssuer> {
    const path = join(stateDir, 'token-key.pem');
    const pem = await readOrCreate(path, () =>
      generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }),
    );
    try {
      return new TokenIssuer(createPrivateKey(pem), clock);
    } catch (error) {
      throw new MeshError('invalid_config', `${path}: cannot read the token key: ${MeshError.from(error).message}`, {
        cause: error,
      });
    }
  }

  async issue(subject: TokenSubject): Promise<IssuedToken> {
    const { namespace, serviceAccount, podName, podUid, nodeName } = subject;
    const issued = Math.floor(this.#clock.now() / 1000);
    const expires = issued + TTL / 1000;
    const token = await new SignJWT({
      'kubernetes.io': {
        namespace,
        serviceaccount: { name: serviceAccount },
        pod: { name: podName, uid: podUid },
        node: { name: nodeName },
      },
    })
      .setProtectedHeader({ alg: 'ES256', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
      .setAudience(AUDIENCE)
      .setIssuedAt(issued)
      .setNotBefore(issued)
      .setExpirationTime(expires)
      .sign(this.#key);
    return { token, expires: expires * 1000 };
  }

  async verify(token: string): Promise<TokenSubject> {
    if (token.length > MAX_TOKEN) throw denied(`larger than ${MAX_TOKEN} bytes`);
    try {
      const { payload } = await jwtVerify(token, this.#publicKey, {
        algorithms: ['ES256'],
        audience: AUDIENCE,
        issuer: ISSUER,
        requiredClaims: ['exp', 'sub'],
        clockTolerance: CLOCK_TOLERANCE,
        currentDate: new Date(this.#clock.now()),
      });
      return subjectOf(payload);
    } catch (error) {
      throw error instanceof MeshError ? error : denied(MeshError.from(error).message);
    }
  }
}

function subjectOf(payload: JWTPayload): TokenSubject {
  const claims = payload['kubernetes.io'];
  const subject = {
    namespace: text(claims, 'namespace'),
    serviceAccount: text(claims, 'serviceaccount', 'name'),
    podName: text(claims, 'pod', 'name'),
    podUid: text(claims, 'pod', 'uid'),
    nodeName: text(claims, 'node', 'name'),
  };
  if (payload.sub !== `system:serviceaccount:${subject.namespace}:${subject.serviceAccount}`)
    throw denied('subject and claims differ');
  return subject;
}

function text(claims: unknown, ...path: string[]): string {
  let value = claims;
  for (const key of path)
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  if (typeof value !== 'string') throw denied(`it has no claim kubernetes.io.${path.join('.')}`);
  return value;
}

function denied(reason: string): MeshError {
  return new MeshError('policy_denied', `the token is refused: ${reason}`);
}
