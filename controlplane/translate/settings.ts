// What every translation knows of the mesh as a whole.

export interface MeshSettings {
  readonly trustDomain: string;
  readonly clusterId: string;
  /** `cluster.local`: the end of service host names. */
  readonly clusterDomain: string;
  /** '' where there is one network. */
  readonly network: string;
  /** Where policies for the whole mesh live. */
  readonly rootNamespace: string;
}

export function hostnameOf(name: string, namespace: string, settings: MeshSettings): string {
  return `${name}.${namespace}.svc.${settings.clusterDomain}`;
}
