import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import t from 'tap';
import { parseAddress } from '#shared/grpc/address.ts';
import { callMetadata, dial, hangUp } from '#shared/grpc/dial.ts';
import type { GrpcEndpoint } from '#shared/grpc/dial.ts';
import { createTestCa } from '../../harness/test-ca.ts';

t.setTimeout(15_000);

const ca = createTestCa();
const bytes = (value: Buffer): Buffer => value;

async function folder(t: Tap): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'culvert-dial-'));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

type Tap = Pick<typeof t, 'teardown'>;

/** A TLS server that echoes, with the given DNS names. */
async function echo(t: Tap, dnsNames: string[]): Promise<number> {
  const { chain, key } = ca.issue('spiffe://td/ns/a/sa/b', { dnsNames });
  const server = new Server();
  const method = { path: '/echo/Echo', requestStream: false, responseStream: false };
  const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
  server.addService(
    { echo: { ...method, ...codec } },
    { echo: (call: { request: Buffer }, answer: (error: null, value: Buffer) => void) => answer(null, call.request) },
  );
  const credentials = ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(chain), private_key: Buffer.from(key) }]);
  t.teardown(() => server.forceShutdown());
  return await new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => (error ? reject(error) : resolve(port)));
  });
}

async function call(endpoint: GrpcEndpoint): Promise<ServiceError | undefined> {
  const client = await dial(endpoint);
  try {
    return await new Promise((resolve) => {
      client.makeUnaryRequest('/echo/Echo', bytes, bytes, Buffer.from('hi'), new Metadata(), (error) =>
        resolve(error ?? undefined),
      );
    });
  } finally {
    hangUp(client);
  }
}

t.test('addresses', async (t) => {
  t.same(parseAddress('https://istiod.istio-system.svc:15012'), { secure: true, target: 'istiod.istio-system.svc:15012' });
  t.same(parseAddress('http://[::1]:15010/'), { secure: false, target: '[::1]:15010' });
  t.same(parseAddress('istiod:15012'), { secure: true, target: 'istiod:15012' });
  for (const bad of ['', 'istiod', 'ftp://istiod:1', 'https://istiod:15012/path', 'https://a b:1'])
    t.throws(() => parseAddress(bad), { code: 'invalid_config', message: /is not an address like/u }, bad);
});

t.test('the server must be who was dialled, or its alternative name', async (t) => {
  const port = await echo(t, ['localhost', 'istiod.test.svc']);
  const rootCert = ca.root;
  t.equal(await call({ address: `https://localhost:${port}`, rootCert }), undefined);
  const byIp = await call({ address: `https://127.0.0.1:${port}`, rootCert });
  t.equal(byIp?.code, status.UNAVAILABLE, 'its certificate does not name the address');
  t.match(byIp?.details, /IP: 127.0.0.1 is not in the cert's list/u);
  t.equal(await call({ address: `https://127.0.0.1:${port}`, rootCert, altHostname: 'istiod.test.svc' }), undefined);
  const wrong = await call({ address: `https://127.0.0.1:${port}`, rootCert, altHostname: 'other.test.svc' });
  t.equal(wrong?.code, status.UNAVAILABLE);
});

t.test('roots: a file read at each dial, PEM text, or the system', async (t) => {
  const port = await echo(t, ['localhost']);
  const dir = await folder(t);
  const rootCert = join(dir, 'root.pem');
  const endpoint = { address: `https://localhost:${port}`, rootCert };
  await t.rejects(dial(endpoint), { code: 'invalid_config', message: `cannot read the root certificate ${rootCert}` });
  await writeFile(rootCert, 'nothing');
  await t.rejects(dial(endpoint), /root.pem: holds no PEM certificate/u);
  await writeFile(rootCert, createTestCa('another').root);
  t.equal((await call(endpoint))?.code, status.UNAVAILABLE);
  await writeFile(rootCert, ca.root);
  t.equal(await call(endpoint), undefined, 'after the rotation');
  t.equal((await call({ ...endpoint, rootCert: 'SYSTEM' }))?.code, status.UNAVAILABLE, 'not a public CA');
});

t.test('headers: token file trimmed and read each time, literal token, cluster, extras', async (t) => {
  const dir = await folder(t);
  const authToken = join(dir, 'token');
  const endpoint = { address: 'http://x:1', rootCert: '', authToken, clusterId: 'c1', headers: { 'X-Extra': 'v' } };
  await t.rejects(callMetadata(endpoint), { code: 'invalid_config', message: `cannot read the token ${authToken}` });
  await writeFile(authToken, '\n');
  await t.rejects(callMetadata(endpoint), /the token file is empty/u);
  await writeFile(authToken, ' abc\n');
  t.same((await callMetadata(endpoint)).getMap(), { authorization: 'Bearer abc', clusterid: 'c1', 'x-extra': 'v' });
  t.same((await callMetadata({ address: '', rootCert: '', authToken: 'a.b.c' })).getMap(), { authorization: 'Bearer a.b.c' });
  t.same((await callMetadata({ address: '', rootCert: '' })).getMap(), {});
});

t.test('hanging up ends a connection that a silent server leaves half made', async (t) => {
  const silent = createServer();
  await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  const { port } = silent.address() as AddressInfo;
  for (const address of [`http://127.0.0.1:${port}`, `https://127.0.0.1:${port}`]) {
    const client = await dial({ address, rootCert: ca.root });
    client.getChannel().getConnectivityState(true);
    const [socket] = (await once(silent, 'connection')) as [Socket];
    await once(socket, 'data');
    hangUp(client);
    await once(socket, 'close');
  }
  silent.close();
  t.pass('both are closed');
});
