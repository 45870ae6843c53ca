// The well-known ports of the mesh, once. Same numbers as Istio's, so that network policies and dashboards carry over.

export const PORT = {
  admin: 15000,
  outbound: 15001,
  inboundPlaintext: 15006,
  hbone: 15008,
  controlPlanePlaintext: 15010,
  controlPlane: 15012,
  controlPlaneMonitoring: 15014,
  webhook: 15017,
  metrics: 15020,
  readiness: 15021,
  dns: 15053,
  socks5: 15080,
} as const;
