// Asks the control plane's CA for a workload's certificate (facts: ztunnel 7).
import { X509Certificate } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import type { Client, ServiceError } from '@grpc/grpc-js';
import { systemClock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../gen/istio/ca/ca_pb.ts';
import type { IstioCertificateRequest, IstioCertificateResponse } from '../gen/istio/ca/ca_pb.ts';
import { callMetadata, dial, hangUp } from '../grpc/dial.ts';
import type { GrpcEndpoint } from '../grpc/dial.ts';
import type { SpiffeId } from '../ids.ts';
import type { WorkloadCertificate } from './certificate.ts';
import { createSigningRequest } from './csr.ts';
import type { SigningRequest } from './csr.ts';
import { splitCertificates } from './pem.ts';

/** Where the certificate cache gets certificates from. */
export interface CertificateFetcher {
  /** Rejects with `no_certificate`. */
  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>;
}

export interface CaClientOptions {
  endpoint: GrpcEndpoint;
  /** Asked-for life of a certificate, ms; default 24 h. */
  ttl?: number;
  /** True for a node proxy, which asks on behalf of the pods of its node; false asks for the caller's own identity. */
  impersonate: boolean;
}

const METHOD = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const DEFAULT_TTL = 24 * 3_600_000;
const CALL_TIMEOUT = 10_000;

export class CaClient implements CertificateFetcher, Disposable {
  #options: CaClientOptions;
  #client: Promise<Client> | undefined;

  constructor(options: CaClientOptions) {
    this.#options = options;
  }

  /** Connects ahead of the first fetch, which tells what is wrong when this fails. */
  async connect(): Promise<void> {
    try {
      const client = await this.#connected();
      client.getChannel().getConnectivityState(true);
    } catch {
      // Roots that cannot be read now are read again by the first fetch.
    }
  }

  async fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    try {
      const request = await createSigningRequest(identity);
      const response = await this.#call(identity, request.csr, signal);
      return readResponse(identity, request, response.certChain);
    } catch (error) {
      const { address } = this.#options.endpoint;
      const reason = MeshError.from(error).message;
      throw new MeshError('no_certificate', `no certificate for ${identity} from ${address}: ${reason}`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    this.#drop();
  }

  async #call(identity: SpiffeId, csr: string, signal: AbortSignal): Promise<IstioCertificateResponse> {
    const { endpoint, impersonate, ttl = DEFAULT_TTL } = this.#options;
    const metadata = await callMetadata(endpoint);
    const client = await this.#connected();
    signal.throwIfAborted();
    const request = create(IstioCertificateRequestSchema, { csr, validityDuration: BigInt(Math.round(ttl / 1000)) });
    if (impersonate) request.metadata = { ImpersonatedIdentity: identity };
    return new Promise((resolve, reject) => {
      const options = { deadline: systemClock.now() + CALL_TIMEOUT };
      const call = client.makeUnaryRequest(METHOD, encode, decode, request, metadata, options, (error, response) => {
        signal.removeEventListener('abort', cancel);
        if (error) reject(this.#failed(error));
        else if (response) resolve(response);
      });
      const cancel = (): void => call.cancel();
      signal.addEventListener('abort', cancel);
    });
  }

  /** One channel serves every fetch until it fails. */
  #connected(): Promise<Client> {
    if (!this.#client) {
      const dialling = dial(this.#options.endpoint);
      this.#client = dialling;
      dialling.catch(() => {
        if (this.#client === dialling) this.#client = undefined;
      });
    }
    return this.#client;
  }

  /** An unreachable or untrusted server may be one whose root has rotated: the next fetch dials with what the file says then. */
  #failed(error: ServiceError): MeshError {
    if (error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED) this.#drop();
    return new MeshError('no_certificate', `${status[error.code]}: ${error.details}`, { cause: error });
  }

  #drop(): void {
    const client = this.#client;
    this.#client = undefined;
    // Calls under way on it end by themselves or by their deadline.
    client?.then(hangUp, () => undefined);
  }
}

/** The leaf first, roots last, intermediates between. Throws when the answer is not what was asked for. */
export function readResponse(
  identity: SpiffeId,
  { privateKey }: SigningRequest,
  certChain: readonly string[],
): WorkloadCertificate {
  const [leafPem, ...rest] = certChain;
  const roots = rest.pop();
  if (leafPem === undefined || roots === undefined) throw new MeshError('no_certificate', 'the answer holds no root certificate');
  const leaf = new X509Certificate(leafPem);
  if (leaf.subjectAltName !== `URI:${identity}`)
    throw new MeshError('no_certificate', `did not find expected SAN ${identity}, got ${leaf.subjectAltName ?? 'none'}`);
  if (!leaf.checkPrivateKey(privateKey)) throw new MeshError('no_certificate', 'the certificate is for another key');
  const trusted = splitCertificates(roots);
  if (trusted.length === 0) throw new MeshError('no_certificate', 'the answer holds no root certificate');
  return {
    identity,
    chain: [leafPem, ...rest].flatMap(splitCertificates).join(''),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    roots: trusted.join(''),
    notBefore: leaf.validFromDate.getTime(),
    notAfter: leaf.validToDate.getTime(),
    serial: BigInt(`0x${leaf.serialNumber}`).toString(),
  };
}

function encode(request: IstioCertificateRequest): Buffer {
  return Buffer.from(toBinary(IstioCertificateRequestSchema, request));
}

function decode(bytes: Buffer): IstioCertificateResponse {
  return fromBinary(IstioCertificateResponseSchema, bytes);
}
