// Under a real istiod: PEER_ISTIOD=ADDRESS (https://HOST:15012). Its state, one certificate of its CA, and one tunnel with it. Two pods of
// the mesh on one node are played by namespaces here that have their addresses, so nothing of the cluster is touched; its policies must
// let the one talk to the other. What istiod wants to know of a ztunnel:
//   PEER_ISTIOD_ROOT     its root certificate, a path or SYSTEM (default: the place where Kubernetes mounts it)
//   PEER_ISTIOD_TOKEN    the token of a ztunnel's service account on that node, a path or itself
//   PEER_ISTIOD_NODE     the node (default node-1)
//   PEER_ISTIOD_CLUSTER  the cluster's name (default Kubernetes)
import { X509Certificate } from 'node:crypto';
import t from 'tap';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';

const { PEER_ISTIOD, PEER_ISTIOD_ROOT, PEER_ISTIOD_TOKEN, PEER_ISTIOD_CLUSTER } = process.env;
const NODE = process.env['PEER_ISTIOD_NODE'] ?? 'node-1';
const HOUR = 3_600_000;

interface DumpedCertificate {
  identity: string;
  state: string;
  certChain: { pem: string }[];
  rootCerts: { pem: string }[];
}

t.test(
  'sync, a certificate, a tunnel',
  { skip: PEER_ISTIOD === undefined && 'PEER_ISTIOD is not set', timeout: 90_000 },
  async (t) => {
    const lab = new MeshLab(t);
    const given = {
      XDS_ROOT_CA: PEER_ISTIOD_ROOT,
      CA_ROOT_CA: PEER_ISTIOD_ROOT,
      AUTH_TOKEN: PEER_ISTIOD_TOKEN,
      CLUSTER_ID: PEER_ISTIOD_CLUSTER,
    };
    const named = Object.fromEntries(
      Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    );
    const address = PEER_ISTIOD ?? '';
    // The CNI agent is dialled when the first full state has come, which the lab waits for.
    const node = await lab.node(NODE, { XDS_ADDRESS: address, CA_ADDRESS: address, SAME_NODE: 'hbone', ...named }, 'ca');
    const { workloads } = node.app.store;
    const [client, server] = Iterator.from(workloads.values())
      .filter(({ node: at, protocol, networkMode }) => at === NODE && protocol === 'HBONE' && networkMode === 'Standard')
      .filter(({ ips, nativeTunnel }) => ips.length > 0 && !nativeTunnel)
      .take(2);
    t.pass(`synced: ${workloads.size} workloads, ${node.app.store.services.size} services`);
    if (!client || !server) throw new Error(`${address} must know two enrolled pods on ${NODE} (PEER_ISTIOD_NODE)`);
    const rejected = await node.metric('istio_xds_connection_terminations_total');
    t.equal(rejected, 0, 'the stream stays up');
    t.same(
      node.log.filter(({ message }) => message === 'resource rejected'),
      [],
      'whatever it sends is taken',
    );

    const [from, to] = [await lab.captured(client), await lab.captured(server)];
    const port = await to.serve((socket) => void socket.pipe(socket));
    const end = await Endpoint.open(from, { ip: to.ip, port });
    end.socket.write('hello');
    await end.untilBytes(5);
    end.socket.end();
    await end.until('closed');
    for (const direction of ['outbound', 'inbound'])
      t.match(await node.line({ direction, level: 'info' }), {
        'src.identity': client.identity,
        'dst.identity': server.identity,
        'dst.addr': /:15008$/u,
        bytes_sent: 5,
        bytes_recv: 5,
      });

    const dump = await fetch(`http://127.0.0.1:${node.app.ports.admin}/config_dump`);
    const { certificates } = (await dump.json()) as { certificates: DumpedCertificate[] };
    for (const { identity } of [client, server]) {
      const held = certificates.find((one) => one.identity === identity);
      t.equal(held?.state, 'Available', identity);
      const [leaf, root] = [held?.certChain[0], held?.rootCerts[0]].map(
        (one) => new X509Certificate(Buffer.from(one?.pem ?? '', 'base64')),
      );
      t.equal(leaf?.subjectAltName, `URI:${identity}`);
      t.ok(root?.ca);
      t.ok((leaf?.validToDate.getTime() ?? Infinity) < Date.now() + 25 * HOUR, 'it is a short-lived one');
    }
  },
);
