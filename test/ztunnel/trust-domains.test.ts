// A mesh that changes its trust domain: peers with certificates of the old one and of the new one talk, and policies mean both.
import { once } from 'node:events';
import t from 'tap';
import { evaluate } from '../../ztunnel/policy/evaluate.ts';
import { policyContext } from '../../ztunnel/policy/match.ts';
import { aMatch, aPolicy, aStore, aWorkload, exact } from '../fixtures/mesh.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'], trustDomain: 'old.example' });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], trustDomain: 'new.example' });
const ALIASES = { TRUST_DOMAIN: 'new.example', TRUST_DOMAIN_ALIASES: 'old.example' };

for (const [name, env, reached] of [
  ['aliases', ALIASES, true],
  ['no aliases', {}, false],
] as const)
  t.test(name, async (t) => {
    const lab = new MeshLab(t);
    const [near, far] = [await lab.node('node-1', env), await lab.node('node-2', env)];
    await lab.apply(web, cart);
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    const port = await server.serve((socket) => socket.pipe(socket));
    const talks = async (): Promise<boolean> => {
      const socket = await client.connect({ ip: server.ip, port }).catch(() => undefined);
      if (!socket) return false;
      socket.write('hello');
      const got = await Promise.race([
        once(socket, 'data').then(() => true),
        new Promise<boolean>((resolve) => socket.once('close', () => resolve(false))),
      ]).catch(() => false);
      socket.destroy();
      return got;
    };
    t.equal(await talks(), reached);
    if (!reached) return;
    t.match(await far.line({ direction: 'inbound' }), { 'src.identity': 'spiffe://old.example/ns/shop/sa/web' });
    await lab.apply(aPolicy('web-only', { matches: [aMatch({ principals: [exact('new.example/ns/shop/sa/web')] })] }));
    t.ok(await talks(), 'the policy names the caller as of the new domain');
    await lab.apply(
      aPolicy('not-web', { action: 'Deny', matches: [aMatch({ principals: [exact('old.example/ns/shop/sa/web')] })] }),
    );
    t.notOk(await talks(), 'and this one as of the old one');
    // A server that has its new certificate while this node still knows it of the old domain.
    await lab.change({ kind: 'remove-policy', key: 'shop/not-web' });
    near.app.store.apply([
      { kind: 'workload', workload: aWorkload('cart', { ...cart, trustDomain: 'old.example', services: {} }) },
    ]);
    await near.app.metrics.render();
    t.ok(await talks(), 'whoever answers may be of either');
  });

t.test('negated principals mean all spellings too', async (t) => {
  const policies = aStore(
    aPolicy('p', { matches: [aMatch({ notPrincipals: [exact('new.example/ns/shop/sa/web')] })] }),
  ).policies.forWorkload(cart);
  const subject = { source: { ip: '10.1.0.1', port: 1 }, destination: { ip: '10.1.0.3', port: 80 }, identity: web.identity };
  const spellings = [web.identity, aWorkload('web', { trustDomain: 'new.example' }).identity];
  t.ok(evaluate(policies, policyContext(subject)).verdict.allowed);
  t.notOk(evaluate(policies, policyContext({ ...subject, spellings })).verdict.allowed);
});
