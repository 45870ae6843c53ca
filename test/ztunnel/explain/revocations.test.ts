// Who is revoked gets no connection, and explain says so: within the node, and to other nodes as far as this one knows.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { describe } from '../../../cli/commands/explain.ts';
import type { Explanation } from '../../../ztunnel/explain/explain.ts';
import { aMatch, aPolicy, aService, aWorkload } from '../../fixtures/mesh.ts';
import { revoking, serialOf } from '../../harness/crl.ts';
import { certificatesOf, eventually, MeshLab } from '../../harness/mesh-lab.ts';
import { createTestCa } from '../../harness/test-ca.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const near = aWorkload('near', { node: 'node-1', ips: ['10.1.0.2'] });
const far = aWorkload('far', { node: 'node-2', ips: ['10.1.0.3'] });
const gate = aWorkload('gate', { node: 'node-1', ips: ['10.1.0.4'] });
const bound = aService('way', {
  vips: ['10.96.0.2'],
  waypoint: { kind: 'address', network: '', ip: '10.1.0.4', port: 15_008 },
});
const bare = aWorkload('bare', { node: 'node-1', ips: ['10.1.0.5'] });
const noTunnel = aWorkload('plain', { node: 'node-2', ips: ['10.1.0.6'], protocol: 'TCP' });

for (const sameNode of ['relay', 'hbone'] as const)
  t.test(`SAME_NODE=${sameNode}`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const file = join(dir, 'crl.pem');
    writeFileSync(file, '');
    const ca = createTestCa();
    const issued = certificatesOf(ca);
    const asked = new Set<string>();
    const certificates: typeof issued = {
      get(identity) {
        asked.add(identity);
        if (identity === bare.identity) return Promise.reject(new MeshError('no_certificate', 'the CA is away'));
        return issued.get(identity);
      },
    };
    const lab = new MeshLab(t);
    const node = await lab.node('node-1', { CRL_PATH: file, SAME_NODE: sameNode }, certificates);
    const deny = aPolicy('no-9000', { action: 'Deny', matches: [aMatch({ destinationPorts: [9000] })] });
    await lab.apply(web, near, far, gate, bare, noTunnel, bound, deny);
    for (const pod of [web, near, gate, bare]) await lab.captured(pod);
    const ask = async (dst: string, src = 'shop/web'): Promise<Explanation> => {
      const query = new URLSearchParams({ src, dst });
      const answer = await fetch(`http://127.0.0.1:${node.app.ports.admin}/explain?${query.toString()}`);
      return (await answer.json()) as Explanation;
    };
    /** Publishes a list of one identity's certificate, and waits until it is in force. */
    const revoke = async ({ identity }: typeof web): Promise<string> => {
      const { chain } = await issued.get(identity);
      writeFileSync(file, revoking(ca, chain));
      await eventually('the list', async () => {
        const { revoked } = await ask('10.1.0.2:80');
        return revoked?.identity === identity || undefined;
      });
      return serialOf(chain).toLowerCase();
    };
    const within = sameNode === 'relay' ? 'same-node' : 'hbone';

    const good = await ask('10.1.0.2:80');
    t.match(good, { rule: 'workload', nextHop: { kind: within }, policies: { allowed: true } });
    t.notOk(good.error, 'no list, nobody revoked');
    t.notOk(good.revoked);

    let serial = await revoke(web);
    const bySource = await ask('10.1.0.2:80');
    const message = `the certificate of the source, ${web.identity}, is revoked by CRL (its own, serial ${serial})`;
    t.match(bySource, {
      rule: 'revocation list',
      nextHop: { kind: within },
      revoked: { end: 'source', identity: web.identity, serial },
      error: { code: 'cert_revoked', message, responseFlags: 'CERT_REVOKED' },
    });
    const text = describe(bySource);
    t.match(text, /^RULE +revocation list$/mu);
    t.match(text, new RegExp(`^NO WAY +the certificate of the source, ${web.identity}, .*serial ${serial}`, 'mu'));
    for (const [dst, kind] of [
      ['10.1.0.3:80', 'hbone'],
      ['10.96.0.2:80', 'hbone'],
    ] as const)
      t.match(await ask(dst), { rule: 'revocation list', nextHop: { kind }, revoked: { end: 'source', serial } }, dst);
    for (const [dst, rule] of [
      ['10.1.0.6:80', 'workload'],
      ['192.0.2.1:80', 'as it was'],
    ] as const) {
      const { revoked, error, ...rest } = await ask(dst);
      t.match([rest, revoked, error], [{ rule }, undefined, undefined], `${dst} gets no tunnel, and so no certificate`);
    }
    const denied = await ask('10.1.0.2:9000');
    t.match(denied, { policies: { allowed: false }, revoked: { end: 'source' } });
    if (sameNode === 'relay') {
      t.equal(denied.rule, 'workload', 'the policies of what is joined here are asked first');
      t.match(denied.why.at(-1), message);
      t.notOk(denied.error);
    } else t.equal(denied.rule, 'revocation list', 'a tunnel comes before policies');
    t.notOk((await ask('10.1.0.2:80', 'shop/gate')).revoked, 'others are not concerned');

    serial = await revoke(near);
    t.match(await ask('10.1.0.2:80'), {
      rule: 'revocation list',
      revoked: { end: 'destination', identity: near.identity, serial },
      error: { message: `the certificate of the destination, ${near.identity}, is revoked by CRL (its own, serial ${serial})` },
    });
    t.notOk((await ask('10.1.0.3:80')).revoked);

    const unknown = await ask('10.1.0.5:80');
    t.match(unknown.why.at(-1), 'whether the certificate of the destination is revoked is not known: the CA is away');
    t.notOk(asked.has(far.identity), 'the certificates of other nodes are not asked for here');
    t.notOk((await ask('10.1.0.3:80', 'shop/far')).revoked);
    t.notOk(asked.has(far.identity));
  });
