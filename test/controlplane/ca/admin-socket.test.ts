import { request } from 'node:http';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { IncomingMessage } from 'node:http';
import t from 'tap';
import { Logging } from '#shared/telemetry/log.ts';
import { AdminServer } from '#shared/telemetry/admin-server.ts';
import { Metadata } from '@grpc/grpc-js';
import { startCa, ZTUNNEL } from './ca-fixture.ts';

t.setTimeout(15_000);

function post(socketPath: string, body: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: '/token', method: 'POST' }, (response: IncomingMessage) => {
      text(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

t.test('a token for a pod, as a kubelet would ask', async (t) => {
  await using ca = await startCa();
  const path = join(ca.stateDir, 'admin.sock');
  const log = new Logging({ sink: { write: () => undefined } }).scope('admin');
  await using admin = new AdminServer(ca.ca.adminRoutes, log);
  await admin.listen({ path, mode: 0o600 });
  t.equal((await stat(path)).mode & 0o777, 0o600);

  const good = await post(path, JSON.stringify(ZTUNNEL));
  t.equal(good.status, 200);
  const { token, expires } = JSON.parse(good.body) as { token: string; expires: number };
  t.ok(Math.abs(expires - Date.now() - 12 * 3_600_000) < 5000);
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  t.match(await ca.ca.authenticator.authenticate({ metadata, getAuthContext: () => null }), {
    identity: 'spiffe://cluster.local/ns/culvert-system/sa/ztunnel',
    pod: { name: 'ztunnel-node-1', uid: 'u-zt', nodeName: 'node-1' },
  });

  for (const [body, reason] of [
    ['{', /the body is not JSON/u],
    ['[]', /namespace: missing is not a Kubernetes name/u],
    [JSON.stringify({ ...ZTUNNEL, namespace: 'a:b' }), /namespace: "a:b" is not/u],
    [JSON.stringify({ ...ZTUNNEL, serviceAccount: 'x/../y' }), /serviceAccount: /u],
    [JSON.stringify({ ...ZTUNNEL, podUid: 7 }), /podUid: 7 is not/u],
    [JSON.stringify({ ...ZTUNNEL, nodeName: 'n'.repeat(20_000) }), /larger than 16384/u],
  ] as const) {
    const refused = await post(path, body);
    t.equal(refused.status, 400, body.slice(0, 60));
    t.match(refused.body, reason);
  }
});
