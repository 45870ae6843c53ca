// What a tunnel may ask of a pod (facts: ztunnel 4).
import t from 'tap';
import { parseAuthority } from '#shared/hbone/authority.ts';
import type { HeaderList } from '#shared/hbone/api.ts';
import { guessService, inboundTarget } from '../../../ztunnel/proxy/inbound-target.ts';
import { tunnelOrigin } from '../../../ztunnel/proxy/inbound-tunnel.ts';
import { proxyHeader } from '../../../ztunnel/proxy/proxy-protocol.ts';
import type { Service, Workload } from '../../../ztunnel/state/model.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const cart = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: { 80: 8080 } } });
const service = aService('cart', { vips: ['10.96.0.1'], ports: { 80: 8080, 81: 0, 82: 9090 } });

function target(authority: string, workload: Workload = cart, ...more: (Workload | Service)[]) {
  const parsed = parseAuthority(authority);
  if (!parsed) throw new Error('not an authority');
  return inboundTarget(aStore(workload, service, ...more), workload, { ip: '10.0.0.2', port: 15_008 }, parsed, { socks5: false });
}

t.test('the pod’s own address', async (t) => {
  t.match(target('10.0.0.2:8080'), { to: { ip: '10.0.0.2', port: 8080 }, proxyHeader: false });
});

t.test('anybody else’s address is refused, unless the pod is the waypoint for it', async (t) => {
  t.throws(() => target('10.0.0.3:8080'), { code: 'destination_mismatch', message: 'ip mismatch: 10.0.0.3 != 10.0.0.2' });
  t.throws(() => target('10.96.0.1:80'), { code: 'destination_mismatch' });
  const gateway = { kind: 'address', network: '', ip: '10.0.0.2', port: 15_008 } as const;
  const bound = aService('bound', { vips: ['10.96.0.7'], waypoint: gateway });
  t.match(target('10.96.0.7:80', cart, bound), { to: { ip: '10.0.0.2', port: 80 } });
  const behind = aWorkload('behind', { ips: ['10.0.0.7'], waypoint: { kind: 'hostname', host: service.key, port: 15_008 } });
  t.match(target('10.0.0.7:80', cart, behind), { to: { ip: '10.0.0.2', port: 80 } }, 'by the service that the pod is of');
});

t.test('a host name: one of the pod’s service ports', async (t) => {
  t.match(target('cart.shop.svc.cluster.local:80').to, { port: 8080 });
  t.match(target('cart.shop.svc.cluster.local:82').to, { port: 9090 });
  t.throws(() => target('cart.shop.svc.cluster.local:81'), { message: /cannot resolve port/u });
  t.throws(() => target('nobody.example:80'), { message: 'no service or workload for hostname nobody.example' });
});

t.test('the ztunnel’s own ports are refused, also by way of a service', async (t) => {
  t.throws(() => target('10.0.0.2:15008'), { code: 'self_call' });
  const sly = aWorkload('cart', { ips: ['10.0.0.2'], services: { cart: { 80: 15_001 } } });
  t.throws(() => target('cart.shop.svc.cluster.local:80', sly), { code: 'self_call' });
});

t.test('an application tunnel takes what comes, on its port, with a PROXY header', async (t) => {
  const sandwich = aWorkload('cart', { ips: ['10.0.0.2'], applicationTunnel: { protocol: 'PROXY', port: 15_088 } });
  t.match(target('1.2.3.4:80', sandwich), {
    to: { ip: '10.0.0.2', port: 15_088 },
    asked: { ip: '1.2.3.4', port: 80 },
    proxyHeader: true,
  });
  t.match(target('cart.shop.svc.cluster.local:82', sandwich), {
    asked: { ip: '10.96.0.1', port: 82 },
    askedHost: 'cart.shop.svc.cluster.local',
  });
  const nowhere = aService('nowhere', { vips: [], ports: { 80: 8080 } });
  t.throws(() => target('nowhere.shop.svc.cluster.local:80', sandwich, nowhere), {
    code: 'unknown_destination',
    message: 'requested service nowhere.shop.svc.cluster.local found, but has no IP addresses',
  });
  const plain = aWorkload('cart', { ips: ['10.0.0.2'], applicationTunnel: { protocol: 'NONE', port: 15_088 } });
  t.match(target('nowhere.shop.svc.cluster.local:80', plain, nowhere), { to: { port: 15_088 }, proxyHeader: false });
});

t.test('the service that was meant: as forwarded, else by port', async (t) => {
  const store = aStore(cart, service);
  t.equal(guessService(store, cart, 8080)?.name, 'cart');
  t.equal(guessService(store, cart, 1)?.name, undefined);
  t.equal(guessService(store, cart, 1, 'cart.shop.svc.cluster.local')?.name, 'cart');
});

t.test('who calls: the control plane’s word before the sender’s, and nobody’s through a gateway', async (t) => {
  const web = aWorkload('web', { ips: ['10.0.0.1'] });
  const store = aStore(cart, web);
  const origin = (remote: string, headers: HeaderList, useBaggage = true) =>
    tunnelOrigin(store, {
      certificate: { uris: ['https://no.spiffe', web.identity], serial: '01' },
      remote: { ip: remote, port: 1 },
      headers,
      workload: cart,
      network: 'home',
      useBaggage,
    });
  const baggage: HeaderList = [['baggage', 'k8s.cluster.name=c,k8s.namespace.name=far,k8s.deployment.name=dep,service.name=svc']];
  t.match(origin('10.0.0.1', baggage), { identity: web.identity, peer: { name: 'web', namespace: 'shop' } });
  t.match(origin('10.0.0.5', baggage), { peer: { name: 'svc', namespace: 'far', workload: 'dep', app: 'dep', cluster: 'c' } });
  t.match(origin('10.0.0.1', [...baggage, ['x-forwarded-network', 'away']]), { peer: { namespace: 'far' } });
  t.match(origin('10.0.0.1', [...baggage, ['x-forwarded-network', 'HOME']]), { peer: { namespace: 'shop' } });
  t.match(origin('10.0.0.5', baggage, false), { peer: { name: '' } });
  t.equal(origin('10.0.0.1', [['forwarded', 'for="1.2.3.4:5";host=Cart.Shop']]).serviceHost, 'cart.shop');
});

t.test('the PROXY header', async (t) => {
  const v4 = proxyHeader({ source: { ip: '1.2.3.4', port: 258 }, destination: { ip: '5.6.7.8', port: 80 }, identity: 'ab' });
  t.equal(
    Buffer.from(v4).toString('hex'),
    ['0d0a0d0a000d0a515549540a', '2111', '0011', '01020304', '05060708', '0102', '0050', 'd000026162'].join(''),
  );
  const named = proxyHeader({
    source: { ip: '1.2.3.4', port: 258 },
    destination: { ip: '5.6.7.8', port: 80 },
    identity: 'ab',
    targetHost: 'c.d',
  });
  t.equal(Buffer.from(named.subarray(-6)).toString('hex'), 'd10003632e64');
  t.equal(Buffer.from(named.subarray(14, 16)).toString('hex'), '0017');
  const mixed = proxyHeader({ source: { ip: '1.2.3.4', port: 1 }, destination: { ip: 'fd00::1', port: 2 }, identity: undefined });
  t.equal(mixed[13], 0x21);
  t.equal(Buffer.from(mixed.subarray(16, 32)).toString('hex'), '00000000000000000000ffff01020304');
});
