// The parts of a ztunnel's /config_dump that are shown; field names are those of Istio's ztunnel (facts: ztunnel 13).

export interface DumpWorkload {
  uid: string;
  workloadIps?: string[];
  name: string;
  namespace: string;
  serviceAccount?: string;
  node?: string;
  protocol?: string;
  waypoint?: { destination?: unknown; hboneMtlsPort?: number };
  status?: string;
}

export interface DumpService {
  name: string;
  namespace: string;
  hostname: string;
  vips?: string[];
  /** Blocks of addresses. */
  cidrVips?: { network: string; cidr: string }[];
  ports?: Record<string, number>;
  endpoints?: Record<string, { status?: string }>;
  waypoint?: { destination?: unknown; hboneMtlsPort?: number };
}

export interface DumpPolicy {
  name: string;
  namespace: string;
  scope: string;
  action: string;
  rules?: unknown[];
}

export interface DumpCertificate {
  identity: string;
  state: string;
  certChain?: { serialNumber: string; validFrom: string; expirationTime: string }[];
}

export interface DumpConnection {
  src: string;
  originalDst?: string;
  actualDst: string;
  protocol?: string;
}

export interface ConfigDump {
  workloads?: DumpWorkload[];
  services?: DumpService[];
  policies?: DumpPolicy[];
  certificates?: DumpCertificate[];
  workloadState?: Record<
    string,
    {
      state: string;
      connections?: { inbound?: DumpConnection[]; outbound?: DumpConnection[] };
      info?: { name: string; namespace: string; serviceAccount: string };
    }
  >;
}

/** The waypoint of a workload or service in words: its host name, or `network/ip`. */
export function shownWaypoint(waypoint: { destination?: unknown } | undefined): string {
  const destination = waypoint?.destination;
  if (destination === undefined || destination === null) return 'None';
  if (typeof destination === 'string') return destination;
  const { hostname, address, Hostname, Address } = destination as Record<string, unknown>;
  const found = hostname ?? Hostname ?? address ?? Address ?? destination;
  if (typeof found === 'string') return found;
  const parts = Object.values(found as Record<string, unknown>).filter((part) => typeof part === 'string' && part !== '');
  return parts.join('/');
}

/** Where a service is reached, without the name of a network that has none: `10.96.0.1,10.97.0.0/16`. */
export function addressesOf({ vips = [], cidrVips = [] }: Pick<DumpService, 'vips' | 'cidrVips'>): string {
  return [...vips, ...cidrVips.map(({ network, cidr }) => `${network}/${cidr}`)]
    .map((address) => address.replace(/^\//u, ''))
    .join(',');
}
