// Waypoints and network gateways that have addresses of both IP families (facts: ztunnel 3): one named by host name is dialled in the family
// that the client used, one named by address in the family of that address.
import t from 'tap';
import { namespacedHostname } from '#shared/ids.ts';
import { decideRoute } from '../../../ztunnel/proxy/upstream.ts';
import type { GatewayAddress, Service, Workload } from '../../../ztunnel/state/model.ts';
import { networkAddress } from '../../../ztunnel/state/model.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const V4 = '10.96.0.1';
const V6 = 'fd96::1';
const web = aWorkload('web', { ips: ['10.0.0.1', 'fd00::1'] });

/** Where a client of the service is sent that dials its address of each family. */
function dialled(...mesh: readonly (Workload | Service)[]) {
  const store = aStore(web, ...mesh);
  return [V4, V6].map((ip) => {
    const request = { source: web, sourceIp: '10.0.0.1', to: { ip, port: 80 }, network: '', random: () => 0 };
    const route = decideRoute(store, request);
    return 'to' in route ? { kind: route.kind, ip: route.to.ip } : route.kind;
  });
}

for (const network of ['', 'far']) {
  const pod = aWorkload('gate', { network, ips: ['10.0.0.9', 'fd00::9'], nativeTunnel: true, services: { gate: {} } });
  const lone = aWorkload('lone', { network, ips: ['10.0.0.8', 'fd00::8'], nativeTunnel: true, hostname: 'lone.example' });
  const gate: Service = {
    ...aService('gate', { ports: { 15_008: 15_008 } }),
    vips: [networkAddress(network, '10.96.0.9'), networkAddress(network, 'fd96::9')],
  };
  const byAddress = (ip: string): GatewayAddress => ({ kind: 'address', network, ip, port: 15_008 });
  const byName = (host: string): GatewayAddress => ({ kind: 'hostname', host: namespacedHostname('shop', host), port: 15_008 });
  const kind = network === '' ? 'hbone' : 'gateway';
  for (const [what, gateway, forV4, forV6] of [
    ['a service by host name', byName(gate.hostname), '10.0.0.9', 'fd00::9'],
    ['a workload by host name', byName('lone.example'), '10.0.0.8', 'fd00::8'],
    ['a service by its IPv4 address', byAddress('10.96.0.9'), '10.0.0.9', '10.0.0.9'],
    ['a service by its IPv6 address', byAddress('fd96::9'), 'fd00::9', 'fd00::9'],
    ['a workload by its IPv4 address', byAddress('10.0.0.8'), '10.0.0.8', '10.0.0.8'],
    ['a workload by its IPv6 address', byAddress('fd00::8'), 'fd00::8', 'fd00::8'],
  ] as const)
    t.test(`${network === '' ? 'waypoint' : 'network gateway'}: ${what}`, async (t) => {
      const cart = aService('cart', {
        vips: [V4, V6],
        subjectAltNames: [pod.identity],
        ...(network === '' ? { waypoint: gateway } : {}),
      });
      const far = aWorkload('far', { network: 'far', ips: [], networkGateway: gateway, services: { cart: {} } });
      t.strictSame(dialled(pod, lone, gate, cart, ...(network === '' ? [] : [far])), [
        { kind, ip: forV4 },
        { kind, ip: forV6 },
      ]);
    });
}
