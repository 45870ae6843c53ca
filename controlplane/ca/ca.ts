// The certificate authority put together.
import type { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '#shared/clock.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Metrics } from '#shared/telemetry/metrics.ts';
import { tokenRoute } from './admin-socket.ts';
import { Authenticator } from './authenticate.ts';
import { caMetrics } from './ca-metrics.ts';
import type { CaConfig } from './config.ts';
import type { PodLookup } from './impersonation.ts';
import { Issuer } from './issuer.ts';
import { loadAuthority } from './root.ts';
import { addCsrService } from './server.ts';
import { ServerCertificate } from './server-certificate.ts';
import { TokenIssuer } from './token-issuer.ts';
import type { TokenVerifier } from './token-issuer.ts';

export interface CaDeps {
  pods: PodLookup;
  clock: Clock;
  log: Log;
  /** Made with `openMetrics: false`, so that citadel_* keep their names. */
  metrics: Metrics;
  /** Verifies tokens in place of the CA's own key (an API server's TokenReview); POST /token is then not offered. */
  tokens?: TokenVerifier;
}

export interface Ca extends Disposable {
  /** PEM bundle of trusted roots; also in STATE_DIR/root-cert.pem. */
  readonly roots: string;
  /** TLS for port 15012: own certificate, renewed; client certificates optional. */
  readonly credentials: ServerCredentials;
  /** Who calls, for the xDS server on 15012. */
  readonly authenticator: Authenticator;
  /** POST /token, for STATE_DIR/admin.sock only. */
  readonly adminRoutes: readonly AdminRoute[];
  /** Adds CreateCertificate to a gRPC server. */
  addTo(server: Server): void;
}

/**
 * Loads or makes keys and root, writes root-cert.pem, and gives what the control plane composes:
 *
 * ```ts
 * const ca = await buildCa(config.ca, { pods, clock, log: log.scope('ca'), metrics });
 * ca.addTo(grpcServer);                                   // and the ADS service
 * grpcServer.bindAsync('[::]:15012', ca.credentials, …);
 * const admin = new AdminServer([...ca.adminRoutes, ...debugRoutes], log);
 * await admin.listen({ path: join(config.ca.stateDir, 'admin.sock'), mode: 0o600 });
 * const caller = await ca.authenticator.authenticate(call); // in the ADS handler on 15012
 * ```
 *
 * Rejects with a MeshError that names the file at fault.
 */
export async function buildCa(config: CaConfig, deps: CaDeps): Promise<Ca> {
  const { clock, log } = deps;
  const authority = await loadAuthority({ ...config, clock });
  const issuer = new Issuer({ authority, clock, defaultTtl: config.defaultTtl, maxTtl: config.maxTtl });
  const tokens = deps.tokens ?? (await TokenIssuer.load(config.stateDir, clock));
  const authenticator = new Authenticator(config.trustDomain, tokens);
  const metrics = caMetrics(deps.metrics, authority, clock);
  const rule = { trustDomain: config.trustDomain, trustedNodeAccounts: config.trustedNodeAccounts, pods: deps.pods };
  const certificate = new ServerCertificate(issuer, config.serverNames, clock, log);
  return {
    roots: authority.roots,
    credentials: certificate.credentials(),
    authenticator,
    adminRoutes: tokens instanceof TokenIssuer ? [tokenRoute(tokens)] : [],
    addTo: (server) => addCsrService(server, { authenticator, rule, issuer, metrics, log }),
    [Symbol.dispose]: () => certificate[Symbol.dispose](),
  };
}
