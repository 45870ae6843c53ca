// What kube-proxy does, as nftables text for one node: a connection to a service address goes to a random ready pod. Pure.
import type { Pod, Service } from '#shared/kube/kinds.ts';
import { portEndpoints, servicePods } from './endpoints.ts';
import type { Endpoint } from './endpoints.ts';
import { DNS_VIP, FABRIC_ADDRESS, SERVICE_CIDR } from './plan.ts';

const TABLE = 'ip culvert-services';

/** One transaction that replaces the whole table, for `nft -f -`. */
export function serviceRules(services: readonly Service[], pods: readonly Pod[]): string {
  const dns = [{ ip: FABRIC_ADDRESS, port: 53 }];
  const ports = [
    { vip: DNS_VIP, protocol: 'udp', port: 53, endpoints: dns },
    { vip: DNS_VIP, protocol: 'tcp', port: 53, endpoints: dns },
    ...services.flatMap((service) => servicePorts(service, pods)),
  ];
  const served = ports.filter(({ endpoints }) => endpoints.length > 0);
  const hairpins = [...new Set(served.flatMap(({ endpoints }) => endpoints.map(({ ip }) => ip)))].sort();
  return `table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  chain services {
${served.map(({ vip, protocol, port, endpoints }) => `    ip daddr ${vip} ${protocol} dport ${port} dnat to ${choice(endpoints)}`).join('\n')}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr ${SERVICE_CIDR} jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr ${SERVICE_CIDR} jump services
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    # A pod that reached itself through its service: the answer must come back through here.
    ${hairpins.length === 0 ? '' : `ct status dnat ip saddr . ip daddr { ${hairpins.map((ip) => `${ip} . ${ip}`).join(', ')} } masquerade`}
  }
  # What was not translated is a service without a ready pod: say so at once instead of letting the client wait.
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr ${SERVICE_CIDR} meta l4proto tcp reject with tcp reset
    ip daddr ${SERVICE_CIDR} reject
  }
  chain local {
    type filter hook output priority filter; policy accept;
    ip daddr ${SERVICE_CIDR} meta l4proto tcp reject with tcp reset
    ip daddr ${SERVICE_CIDR} reject
  }
}
`;
}

interface RuledPort {
  vip: string;
  protocol: string;
  port: number;
  endpoints: Endpoint[];
}

function servicePorts(service: Service, pods: readonly Pod[]): RuledPort[] {
  const vip = service.spec?.clusterIP;
  if (vip === undefined || vip === '' || vip === 'None') return [];
  const members = servicePods(service, pods);
  return (service.spec?.ports ?? []).flatMap((port) => {
    const protocol = (port.protocol ?? 'TCP').toLowerCase();
    if (protocol !== 'tcp' && protocol !== 'udp') return [];
    return [{ vip, protocol, port: port.port, endpoints: portEndpoints(port, members) }];
  });
}

function choice(endpoints: readonly Endpoint[]): string {
  const [first] = endpoints;
  if (endpoints.length === 1 && first) return `${first.ip}:${first.port}`;
  const map = endpoints.map(({ ip, port }, index) => `${index} : ${ip} . ${port}`).join(', ');
  return `numgen random mod ${endpoints.length} map { ${map} }`;
}
