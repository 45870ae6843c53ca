// A control plane that can be switched off and on: delta xDS and a CA on one plaintext port, state and life of certificates by the test.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { sendUnaryData, ServerDuplexStream, ServerUnaryCall } from '@grpc/grpc-js';
import { ipToBytes } from '#shared/address.ts';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaDiscoveryRequest } from '#shared/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '#shared/gen/istio/ca/ca_pb.ts';
import type { IstioCertificateRequest } from '#shared/gen/istio/ca/ca_pb.ts';
import type { Authorization } from '#shared/gen/istio/security/authorization_pb.ts';
import { AuthorizationSchema } from '#shared/gen/istio/security/authorization_pb.ts';
import { AddressSchema, TunnelProtocol, WorkloadStatus } from '#shared/gen/istio/workload/workload_pb.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { readSigningRequest } from '../../controlplane/ca/signing-request.ts';
import type { Service, Workload } from '../../ztunnel/state/model.ts';
import { ipOf } from '../../ztunnel/state/model.ts';
import type { TestCa } from './test-ca.ts';

const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization';
const ADS = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const CSR = '/istio.v1.auth.IstioCertificateService/CreateCertificate';

type Call = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

interface Resource {
  readonly version: string;
  readonly bytes: Uint8Array;
}

export interface CertificateRequest {
  /** In whose name it was asked for; undefined: in the caller's own. */
  readonly impersonated: unknown;
  readonly authorization: unknown;
  readonly clusterId: unknown;
}

/** How a proxy presents itself: the node of its first request, and the headers of its call. */
export interface XdsCall {
  readonly node: DeltaDiscoveryRequest['node'];
  readonly headers: Readonly<Record<string, unknown>>;
}

export class TestControlPlane implements Disposable {
  /** Certificate requests answered so far. */
  issued = 0;
  /** What each certificate request said besides its key, answered or not. */
  readonly requests: CertificateRequest[] = [];
  /** Headers of each certificate request. */
  readonly caHeaders: Readonly<Record<string, unknown>>[] = [];
  readonly xdsCalls: XdsCall[] = [];
  /** Whom the token of a caller stands for that asks in nobody else's name. */
  holder: string | undefined;
  /** Whether the CA answers; otherwise it says that it is unavailable. */
  signs = true;
  /** The time by which it dates certificates. */
  now: () => number = Date.now;
  /** How long before that they begin, ms. */
  backdate = 1000;
  readonly #ca: TestCa;
  readonly #resources = new Map<string, Map<string, Resource>>([
    [ADDRESS, new Map()],
    [AUTHORIZATION, new Map()],
  ]);
  readonly #streams = new Map<Call, Set<string>>();
  #server: Server | undefined;
  #port = 0;
  #version = 0;

  constructor(ca: TestCa) {
    this.#ca = ca;
  }

  get port(): number {
    return this.#port;
  }

  get address(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens, on the port of the last time when there was one; with a certificate over TLS. */
  async start(certificate?: WorkloadCertificate): Promise<void> {
    const server = new Server();
    server.addService(SERVICES, { delta: (call: Call) => this.#serve(call), csr: this.#sign });
    this.#port = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, port: number): void => (error ? reject(error) : resolve(port));
      server.bindAsync(`127.0.0.1:${this.#port}`, credentialsOf(certificate), done);
    });
    this.#server = server;
  }

  /** Gone at once, as a killed one. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.#streams.clear();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  setWorkload(workload: Workload): void {
    this.#set(ADDRESS, workload.uid, toBinary(AddressSchema, addressOf(workload)));
  }

  setService({ name, namespace, hostname, vips, ports, key }: Service): void {
    const addresses = vips.map((vip) => ({ network: '', address: ipToBytes(ipOf(vip)) ?? new Uint8Array(4) }));
    const list = Array.from(ports, ([servicePort, targetPort]) => ({ servicePort, targetPort }));
    const value = { name, namespace, hostname, addresses, ports: list };
    this.#set(ADDRESS, key, toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value } })));
  }

  setPolicy(key: string, policy: Authorization): void {
    this.#set(AUTHORIZATION, key, toBinary(AuthorizationSchema, policy));
  }

  removePolicy(key: string): void {
    this.#resources.get(AUTHORIZATION)?.delete(key);
    this.#push(AUTHORIZATION, [], [key]);
  }

  #set(typeUrl: string, name: string, bytes: Uint8Array): void {
    this.#resources.get(typeUrl)?.set(name, { version: String(++this.#version), bytes });
    this.#push(typeUrl, [name], []);
  }

  #push(typeUrl: string, names: readonly string[], removed: readonly string[]): void {
    for (const [call, types] of this.#streams) if (types.has(typeUrl)) this.#send(call, typeUrl, names, removed);
  }

  #send(call: Call, typeUrl: string, names: readonly string[], removedResources: readonly string[]): void {
    const resources = names.flatMap((name) => {
      const found = this.#resources.get(typeUrl)?.get(name);
      return found ? [{ name, version: found.version, resource: { typeUrl, value: found.bytes } }] : [];
    });
    const nonce = String(++this.#version);
    const response = { typeUrl, nonce, resources, removedResources: [...removedResources] };
    call.write(Buffer.from(toBinary(DeltaDiscoveryResponseSchema, create(DeltaDiscoveryResponseSchema, response))));
  }

  #serve(call: Call): void {
    const types = new Set<string>();
    this.#streams.set(call, types);
    call.on('data', ({ node, typeUrl, initialResourceVersions: known }: DeltaDiscoveryRequest) => {
      if (types.size === 0) this.xdsCalls.push({ node, headers: call.metadata.getMap() });
      const held = this.#resources.get(typeUrl);
      if (!held || types.has(typeUrl)) return;
      types.add(typeUrl);
      const fresh = [...held].filter(([name, { version }]) => known[name] !== version).map(([name]) => name);
      this.#send(
        call,
        typeUrl,
        fresh,
        Object.keys(known).filter((name) => !held.has(name)),
      );
    });
    const gone = (): void => void this.#streams.delete(call);
    call.on('error', gone);
    call.on('close', gone);
    call.on('end', () => call.end());
  }

  readonly #sign = (call: ServerUnaryCall<IstioCertificateRequest, Buffer>, answer: sendUnaryData<Buffer>): void => {
    const { csr, metadata, validityDuration } = call.request;
    const impersonated = metadata?.['ImpersonatedIdentity'];
    const [authorization, clusterId] = ['authorization', 'clusterid'].map((name) => call.metadata.get(name)[0]);
    this.requests.push({ impersonated, authorization, clusterId });
    this.caHeaders.push(call.metadata.getMap());
    const identity = impersonated ?? this.holder;
    if (!this.signs || typeof identity !== 'string') return answer({ code: status.UNAVAILABLE, details: 'as the test wants' });
    this.issued++;
    const life = Number(validityDuration) * 1000;
    const dates = { notBefore: new Date(this.now() - this.backdate), notAfter: new Date(this.now() + life) };
    const { chain } = this.#ca.issue(identity, { publicKey: readSigningRequest(csr), ...dates });
    const response = create(IstioCertificateResponseSchema, { certChain: [chain, this.#ca.root] });
    return answer(null, Buffer.from(toBinary(IstioCertificateResponseSchema, response)));
  };
}

function credentialsOf(certificate: WorkloadCertificate | undefined): ServerCredentials {
  if (!certificate) return ServerCredentials.createInsecure();
  const [key, chain] = [Buffer.from(certificate.key), Buffer.from(certificate.chain)];
  return ServerCredentials.createSsl(null, [{ private_key: key, cert_chain: chain }]);
}

const bytes = (value: Buffer): Buffer => value;
const SERVICES = {
  delta: {
    path: ADS,
    requestStream: true,
    responseStream: true,
    requestSerialize: bytes,
    requestDeserialize: (value: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, value),
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
  csr: {
    path: CSR,
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: (value: Buffer) => fromBinary(IstioCertificateRequestSchema, value),
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
};

function addressOf({ uid, name, namespace, ips, serviceAccount, node, clusterId, canonicalName, canonicalRevision }: Workload) {
  return create(AddressSchema, {
    type: {
      case: 'workload',
      value: {
        uid,
        name,
        namespace,
        serviceAccount,
        node,
        clusterId,
        canonicalName,
        canonicalRevision,
        workloadName: name,
        addresses: ips.map((ip) => ipToBytes(ip) ?? new Uint8Array(4)),
        tunnelProtocol: TunnelProtocol.HBONE,
        status: WorkloadStatus.HEALTHY,
      },
    },
  });
}
