// POST /token on STATE_DIR/admin.sock: what a kubelet gets from the API server's TokenRequest. Whoever may open the socket (mode
// 0600) may be anybody in the mesh, as whoever may read the CA key may.
import { MeshError } from '#shared/errors.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { TokenIssuer, TokenSubject } from './token-issuer.ts';

const MAX_BODY = 16 * 1024;
/** Kubernetes names: RFC 1123 subdomains. */
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/u;
const UID = /^[\w.:-]{1,253}$/u;

const FIELDS = [
  'namespace',
  'serviceAccount',
  'podName',
  'podUid',
  'nodeName',
] as const satisfies readonly (keyof TokenSubject)[];

/** `{namespace, serviceAccount, podName, podUid, nodeName}` → `{token, expires}`, expires in ms since the epoch. 400 names the field. */
export function tokenRoute(issuer: TokenIssuer): AdminRoute {
  return {
    path: '/token',
    methods: ['POST'],
    summary: 'a service account token for a pod',
    handle: async (request) => json(await issuer.issue(readSubject(await request.body(MAX_BODY)))),
  };
}

function readSubject(body: Buffer): TokenSubject {
  let fields: unknown;
  try {
    fields = JSON.parse(body.toString());
  } catch (error) {
    throw new MeshError('bad_request', `the body is not JSON: ${MeshError.from(error).message}`, { cause: error });
  }
  const subject: Partial<TokenSubject> = {};
  for (const field of FIELDS) {
    const value = typeof fields === 'object' && fields !== null ? (fields as Record<string, unknown>)[field] : undefined;
    const pattern = field === 'podUid' ? UID : NAME;
    if (typeof value !== 'string' || !pattern.test(value))
      throw new MeshError('bad_request', `${field}: ${JSON.stringify(value) ?? 'missing'} is not a Kubernetes name`);
    subject[field] = value;
  }
  return subject as TokenSubject;
}
