// GET /explain?src=…&dst=…: what would become of a connection, without making it.
import { canonicalIp } from '#shared/address.ts';
import type { HostPort } from '#shared/address.ts';
import { MeshError } from '#shared/errors.ts';
import type { AdminRoute } from '#shared/telemetry/admin-server.ts';
import { json } from '#shared/telemetry/admin-server.ts';
import { answerFromMesh } from '../dns/answer.ts';
import { candidatesOf } from '../dns/names.ts';
import { fetchDestination, fetchHost } from '../state/fetch.ts';
import type { Workload } from '../state/model.ts';
import type { PodIdentity } from '../state/workloads.ts';
import type { ExplainView } from './explain.ts';
import { explain } from './explain.ts';

export function explainRoute(view: ExplainView): AdminRoute {
  return {
    path: '/explain',
    summary: 'what would become of a connection, and why: ?src=NAMESPACE/POD&dst=HOST:PORT',
    async handle({ url }) {
      const [src, dst] = [url.searchParams.get('src'), url.searchParams.get('dst')];
      if (!src || !dst)
        throw new MeshError('bad_request', 'give src=NAMESPACE/POD (or its address) and dst=HOST:PORT (or IP:PORT)');
      const source = findSource(view, src);
      const { demand, store, config } = view;
      const host = /^([^[\]:]+):\d+$/u.exec(dst)?.[1]?.toLowerCase();
      if (demand && host !== undefined && canonicalIp(host) === undefined)
        for (const { name: hostname } of candidatesOf(host, { ...config, namespace: source.namespace, search: [] }))
          await fetchHost(demand, { hostname, namespace: source.namespace, clusterDomain: config.clusterDomain });
      const to = findDestination(view, source, dst);
      if (demand) await fetchDestination(store, demand, { network: config.network, to, namespace: source.namespace });
      return json(await explain(view, source, to));
    },
  };
}

export function isPod(a: PodIdentity, b: PodIdentity): boolean {
  return a.name === b.name && a.namespace === b.namespace && a.serviceAccount === b.serviceAccount;
}

function findSource({ store, config }: ExplainView, text: string): Workload {
  const ip = canonicalIp(text);
  const byIp = ip === undefined ? undefined : store.workloads.byAddress(config.network, ip);
  const found = byIp ?? Iterator.from(store.workloads.values()).find(({ namespace, name }) => `${namespace}/${name}` === text);
  if (found) return found;
  throw new MeshError(
    'not_found',
    `src=${text}: no workload of the mesh has this address or NAMESPACE/NAME; config_dump lists all`,
  );
}

function findDestination({ store, config }: ExplainView, source: Workload, text: string): HostPort {
  const [, bracketed, plain, digits] = /^(?:\[(.*)\]|([^:]+)):(\d{1,5})$/u.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain ?? '', Number(digits)];
  if (!(port >= 1 && port <= 65_535))
    throw new MeshError('bad_request', `dst=${text}: neither HOST:PORT nor IP:PORT ([IP]:PORT for IPv6)`);
  const ip = canonicalIp(host) ?? resolve(host);
  if (ip !== undefined) return { ip, port };
  throw new MeshError(
    'not_found',
    `dst=${text}: ${source.namespace}/${source.name} knows no service of this name; give an address for hosts outside of the mesh`,
  );

  function resolve(name: string): string | undefined {
    const { clusterDomain, ipv6, preferredServiceNamespace: preferredNamespace } = config;
    const options = { clusterDomain, ipv6, preferredNamespace, search: [] };
    for (const family of ['IPv4', 'IPv6'] as const) {
      const address = answerFromMesh({ name: name.toLowerCase(), family }, store, source, options)?.addresses[0];
      if (address !== undefined) return address;
    }
    return undefined;
  }
}
