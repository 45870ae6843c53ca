// Which names of the mesh a client may mean by the one that it asks for (facts: ztunnel 11). Its resolver library appends the search
// domains of its resolv.conf one after the other; they are taken off again here, so that the first question finds the service.

export interface Candidate {
  readonly name: string;
  /** What is left of the asked name without a search domain: the client is told that the one stands for the other. */
  readonly stripped?: string;
}

export interface Naming {
  /** `cluster.local` */
  readonly clusterDomain: string;
  readonly namespace: string;
  /** Search domains of the client, lower-case. Those of the cluster are taken off in any case. */
  readonly search: readonly string[];
}

/** In the order of preference, each once. */
export function* candidatesOf(asked: string, naming: Naming): Generator<Candidate> {
  const given = new Set<string>();
  for (const candidate of readings(asked, naming)) {
    if (given.has(candidate.name)) continue;
    given.add(candidate.name);
    yield candidate;
  }
}

function* readings(asked: string, naming: Naming): Generator<Candidate> {
  yield { name: asked };
  for (const name of expansions(asked, naming)) yield { name };
  const own = clusterSearch(naming);
  for (const domain of own) {
    const stripped = without(asked, domain);
    if (stripped === undefined) continue;
    yield { name: stripped, stripped };
    for (const name of expansions(stripped, naming)) yield { name, stripped };
  }
  for (const domain of naming.search) {
    const stripped = own.includes(domain) ? undefined : without(asked, domain);
    // A short name below another domain is a host of that domain, not a service of the cluster.
    if (stripped?.includes('.') === true) yield { name: stripped, stripped };
  }
}

/** Wildcards that cover a name, the closest first: `*.b.c`, `*.c` for `a.b.c`. */
export function wildcardsOf(name: string): string[] {
  const labels = name.split('.');
  return labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`);
}

/** Search domains that Kubernetes gives each pod. */
export function clusterSearch({ namespace, clusterDomain }: Pick<Naming, 'namespace' | 'clusterDomain'>): string[] {
  return [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}

/** The full names of Services and of their pods that a short one can stand for. */
function expansions(name: string, { namespace, clusterDomain }: Naming): string[] {
  const labels = name.split('.');
  const endsInSvc = labels.at(-1) === 'svc';
  switch (labels.length) {
    case 1:
      return name === '' ? [] : [`${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3:
      return [...(endsInSvc ? [`${name}.${clusterDomain}`] : []), `${name}.svc.${clusterDomain}`];
    case 4:
      return endsInSvc ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

function without(name: string, domain: string): string | undefined {
  return name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : undefined;
}
