// The configuration as /config_dump shows it: what Istio's ztunnel has too by its names, the rest as we call it. No secret is in it.
import { PORT } from '#shared/ports.ts';
import type { ZtunnelConfig } from '../config.ts';

/** As other tools read it: whole seconds and the rest in nanoseconds. */
interface Duration {
  readonly secs: number;
  readonly nanos: number;
}

export function configView(config: ZtunnelConfig): object {
  const { nodeName, trustDomain, self, authToken, ports, http2, keepalive, userTimeout, originalSource, ipv6, ...named } = config;
  const { xdsAddress, xdsRootCa, caRootCa, xdsHeaders, caHeaders, preferredServiceNamespace, secretTtl, ...more } = named;
  const {
    poolMaxStreams,
    poolUnusedTimeout,
    drainDeadline,
    workerThreads,
    responseBaggage,
    dnsProxyAddress,
    metadata,
    localXds,
    ...own
  } = more;
  const wildcard = (port: number): string => `${ipv6 ? '[::]' : '0.0.0.0'}:${port}`;
  return {
    ...own,
    localNode: nodeName,
    ztunnelIdentity: self.serviceAccount === '' ? null : `spiffe://${trustDomain}/ns/${self.namespace}/sa/${self.serviceAccount}`,
    ztunnelWorkload: { name: self.name, namespace: self.namespace, serviceAccount: self.serviceAccount },
    adminAddr: `localhost:${ports.admin}`,
    statsAddr: wildcard(ports.metrics),
    readinessAddr: wildcard(ports.readiness),
    outboundAddr: wildcard(PORT.outbound),
    inboundPlaintextAddr: wildcard(PORT.inboundPlaintext),
    inboundAddr: wildcard(PORT.hbone),
    dnsProxyAddr: `${dnsProxyAddress.ip}:${dnsProxyAddress.port}`,
    xdsAddress: xdsAddress === '' ? null : xdsAddress,
    xdsRootCert: xdsRootCa,
    caRootCert: caRootCa,
    // What it says is the dump's staticConfig.
    localXds: localXds === undefined ? null : '(set)',
    authToken: authToken === undefined ? null : '(set)',
    // They may carry credentials.
    xdsHeaders: Object.keys(xdsHeaders),
    caHeaders: Object.keys(caHeaders),
    preferedServiceNamespace: preferredServiceNamespace ?? null,
    secretTtl: duration(secretTtl),
    proxyMetadata: metadata,
    windowSize: http2.maxStreamWindow,
    connectionWindowSize: http2.connectionWindow,
    frameSize: http2.frameSize,
    poolMaxStreamsPerConn: poolMaxStreams,
    poolUnusedReleaseTimeout: duration(poolUnusedTimeout),
    selfTerminationDeadline: duration(drainDeadline),
    numWorkerThreads: workerThreads,
    requireOriginalSource: { require: true, no: false, try: null }[originalSource],
    socketConfig: {
      keepaliveEnabled: keepalive !== undefined,
      ...(keepalive && {
        keepaliveTime: duration(keepalive.time),
        keepaliveInterval: duration(keepalive.interval),
        keepaliveRetries: keepalive.retries,
      }),
      userTimeoutEnabled: userTimeout !== undefined,
    },
    ipv6Enabled: ipv6,
    enableEnhancedBaggage: responseBaggage,
  };
}

function duration(ms: number): Duration {
  return { secs: Math.floor(ms / 1000), nanos: Math.round((ms % 1000) * 1e6) };
}
