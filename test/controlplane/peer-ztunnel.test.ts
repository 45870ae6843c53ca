// Another ztunnel of ambient mode, built by hand (PEER_ZTUNNEL=PATH), beside ours under this control plane: both get their state and
// certificates from it, with a token, over TLS.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { MeshLab, eventually } from '../harness/mesh-lab.ts';
import { capturedByPeer, startPeerZtunnel, talk, tunnelsBothWays } from '../harness/peer-ztunnel.ts';
import type { RunningApp } from './running-app.ts';
import { podYaml, runningApp } from './running-app.ts';

const PEER = process.env['PEER_ZTUNNEL'];
const inDefault = { namespace: 'default', serviceAccount: 'default' };
const ours = aWorkload('ours', { ...inDefault, node: 'node-1', ips: ['10.1.0.1'] });
const theirs = aWorkload('theirs', { ...inDefault, node: 'node-2', ips: ['10.1.0.3'] });

const service = (name: string, ip: string): string =>
  `{apiVersion: v1, kind: Service, metadata: {name: ${name}, namespace: default},
    spec: {clusterIP: ${ip}, selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: 8080}]}}`;
const NO_9000 = `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: no-9000, namespace: default},
    spec: {action: DENY, rules: [{to: [{operation: {ports: ["9000"]}}]}]}}`;

/** A pod that is enrolled, on its node. */
function enrolled({ name, ips, node }: typeof ours): string {
  const pod = JSON.parse(podYaml(name, ips[0] ?? '', { app: name })) as Record<'metadata' | 'spec', Record<string, unknown>>;
  pod.metadata['annotations'] = { 'ambient.istio.io/redirection': 'enabled' };
  pod.spec['nodeName'] = node;
  return JSON.stringify(pod);
}

/** What a ztunnel of the node is told: where the control plane is, and the token of its own pod. */
async function underPlane(plane: RunningApp, nodeName: string): Promise<Record<string, string>> {
  const { token } = await plane.admin<{ token: string }>('/token', {
    namespace: 'culvert-system',
    serviceAccount: 'ztunnel',
    podName: `ztunnel-${nodeName}`,
    podUid: `uid-${nodeName}`,
    nodeName,
  });
  const address = `https://localhost:${plane.ports.tls}`;
  const root = join(plane.stateDir, 'root-cert.pem');
  return {
    NODE_NAME: nodeName,
    POD_NAME: `ztunnel-${nodeName}`,
    POD_NAMESPACE: 'culvert-system',
    XDS_ADDRESS: address,
    CA_ADDRESS: address,
    XDS_ROOT_CA: root,
    CA_ROOT_CA: root,
    AUTH_TOKEN: token,
  };
}

t.test(
  'it follows this control plane',
  { skip: PEER === undefined && 'PEER_ZTUNNEL names no binary', timeout: 60_000 },
  async (t) => {
    const { plane, near, far, here, there } = await setUp(t);
    for (const pod of [here, there]) for (const port of [8080, 9000]) await pod.serve((socket) => void socket.pipe(socket), port);

    const { out, home } = await tunnelsBothWays(t, {
      near,
      far,
      ours: { pod: here, identity: ours.identity, at: { ip: '10.96.0.1', port: 80 } },
      theirs: { pod: there, identity: theirs.identity, at: { ip: '10.96.0.2', port: 80 } },
    });
    t.equal(out['dst.hbone_addr'], '10.1.0.3:8080');
    t.equal(home['dst.hbone_addr'], '10.1.0.1:8080');

    t.equal(await talk(here, { ip: '10.1.0.3', port: 9000 }), 5);
    await plane.put('policy.yaml', NO_9000);
    await eventually('the policy', async () => ((await talk(here, { ip: '10.1.0.3', port: 9000 })) === 0 ? true : undefined));
    // The first one may have been open when it came, and was cut.
    t.equal(await talk(here, { ip: '10.1.0.3', port: 9000 }), 0);
    t.ok(await far.line('inbound', /explicitly denied by: default\/no-9000/u));
    await plane.put('policy.yaml', undefined);
    await eventually('its removal', async () => ((await talk(here, { ip: '10.1.0.3', port: 9000 })) === 5 ? true : undefined));
  },
);

async function setUp(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-peer-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const plane = await runningApp(t, {
    'pods.yaml': [ours, theirs].map(enrolled).join('\n---\n'),
    'services.yaml': [service('ours', '10.96.0.1'), service('theirs', '10.96.0.2')].join('\n---\n'),
  });
  const lab = new MeshLab(t);
  const near = await lab.node('node-1', await underPlane(plane, 'node-1'), 'ca');
  const far = await startPeerZtunnel(t, PEER ?? '', dir, await underPlane(plane, 'node-2'));
  const here = await lab.captured(ours);
  const there = await capturedByPeer(lab, far, theirs);
  return { plane, near, far, here, there };
}
