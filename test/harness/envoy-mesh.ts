// A ztunnel and a real Envoy as the two ends of tunnels: an enrolled pod at one end, and a pod in which Envoy speaks HBONE at the other.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { Backend } from '#shared/reactor/create.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { type EnvoyRole, hboneEnvoy } from './envoy-hbone.ts';
import { type LabNode, MeshLab } from './mesh-lab.ts';
import type { TestPod } from './pod-net.ts';
import type { TestCa } from './test-ca.ts';

export const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
export const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

const HBONE = 15_008;
const ADMIN = 19_901;
/** What Envoy takes from its applications. */
const CAPTURE = 19_000;
const APP = 8080;

export interface EnvoyMeshOptions {
  readonly backend: Backend;
  /** Environment of the ztunnel. */
  readonly env?: Record<string, string>;
  /** Of Envoy; by default a good one. */
  readonly certificate?: (ca: TestCa) => WorkloadCertificate;
  /** Of the ztunnel's pod; by default a good one. */
  readonly ours?: (ca: TestCa) => WorkloadCertificate;
  /** How the SPIFFE ID must begin that Envoy accepts; by default anybody's of the mesh. */
  readonly peers?: string;
}

export interface EnvoyMesh {
  readonly lab: MeshLab;
  /** The one with the ztunnel. */
  readonly node: LabNode;
  /** A connection of the client's application, half-open allowed, on its way to that of the server. */
  dial(): Socket;
  /** What the server's application gets next; fails after ten seconds. */
  accept(): Promise<Socket>;
  /** A connection once it is open, and its other end. One at a time, so that they belong together. */
  open(): Promise<[client: Socket, server: Socket]>;
  readonly envoy: RunningEnvoy;
}

export interface RunningEnvoy {
  readonly log: () => string;
  /** A counter or gauge by its whole name; throws when Envoy has none of that name. */
  stat(name: string): Promise<number>;
  /** A POST to a path of its admin page. */
  post(path: string): Promise<void>;
}

/** `serves`: Envoy is the server's end, `calls`: the client's. It ends with the test. */
export async function envoyMesh(
  t: Test,
  envoyIs: 'the server' | 'the client',
  { backend, env = {}, ours, certificate, peers }: EnvoyMeshOptions,
): Promise<EnvoyMesh> {
  const lab = new MeshLab(t);
  const [own, other] = envoyIs === 'the server' ? [web, cart] : [cart, web];
  const certificates = ours ? { get: () => Promise.resolve(ours(lab.ca)) } : undefined;
  const node = await lab.node(own.node, { CULVERT_BACKEND: backend, ...env }, certificates);
  await lab.apply(web, cart);
  const [here, there] = [await lab.captured(own), lab.pod(other)];
  const [client, server] = envoyIs === 'the server' ? [here, there] : [there, here];
  const accepted: Socket[] = [];
  const target = { ip: server.ip, port: await server.serve((socket) => void accepted.push(socket), APP) };
  const role: EnvoyRole =
    envoyIs === 'the server'
      ? { kind: 'server', upstreams: { '*': target } }
      : { kind: 'client', peer: { ip: server.ip, port: HBONE }, authorities: [`${target.ip}:${target.port}`] };
  const address = { ip: there.ip, port: envoyIs === 'the server' ? HBONE : CAPTURE };
  const admin = { ip: there.ip, port: ADMIN };
  const answers = async (): Promise<boolean> => {
    const ready = await ask(there, admin, 'GET', '/ready').catch(() => '');
    if (ready.trim() !== 'LIVE') await sleep(50);
    return ready.trim() === 'LIVE';
  };
  const place = { netns: there.netns.name, address, answers };
  const options = { adminPort: ADMIN, ...(peers === undefined ? {} : { peers }) };
  const envoy = await hboneEnvoy(role, certificate?.(lab.ca) ?? lab.ca.issue(other.identity), place, options);
  t.teardown(() => envoy[Symbol.asyncDispose]());
  const dial = (): Socket => client.dial(envoyIs === 'the server' ? target : address);
  const accept = async (): Promise<Socket> => {
    for (const end = performance.now() + 10_000; performance.now() < end; await sleep(2)) {
      const found = accepted.shift();
      if (found) return found;
    }
    throw new Error(`no connection at the server; Envoy: ${envoy.log()}`);
  };
  return {
    lab,
    node,
    dial,
    accept,
    async open() {
      const socket = dial();
      await once(socket, 'connect');
      return [socket, await accept()];
    },
    envoy: {
      log: envoy.log,
      async stat(name) {
        const line = (await ask(there, admin, 'GET', `/stats?filter=^${name}$`)).trim();
        if (!line.startsWith(`${name}: `)) throw new Error(`Envoy has no ${name}`);
        return Number(line.slice(name.length + 2));
      },
      post: async (path) => void (await ask(there, admin, 'POST', path)),
    },
  };
}

/** The body of an answer with status 200. */
async function ask(pod: TestPod, to: HostPort, method: string, path: string): Promise<string> {
  const sent = request({ method, path, createConnection: () => pod.dial(to) }).end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode} ${body}`);
  return body;
}
