// istio.v1.auth.IstioCertificateService/CreateCertificate: who calls, for whom, with which key, then sign.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import type { Server, ServerUnaryCall } from '@grpc/grpc-js';
import { MeshError } from '#shared/errors.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '#shared/gen/istio/ca/ca_pb.ts';
import type { IstioCertificateRequest } from '#shared/gen/istio/ca/ca_pb.ts';
import { isSpiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import type { Log } from '#shared/telemetry/log.ts';
import type { Authenticator, Caller, IncomingCall } from './authenticate.ts';
import type { CaMetrics } from './ca-metrics.ts';
import { refuseIdentity } from './impersonation.ts';
import type { ImpersonationRule } from './impersonation.ts';
import type { Issuer } from './issuer.ts';
import { readSigningRequest } from './signing-request.ts';

export interface CsrServiceOptions {
  authenticator: Authenticator;
  rule: ImpersonationRule;
  issuer: Issuer;
  metrics: CaMetrics;
  log: Log;
}

const PATH = '/istio.v1.auth.IstioCertificateService/CreateCertificate';

/** What a refused call is answered with. */
interface Refusal {
  code: status;
  details: string;
}

/** Adds the service to a gRPC server. */
export function addCsrService(server: Server, options: CsrServiceOptions): void {
  const bytes = (value: Buffer): Buffer => value;
  server.addService(
    {
      // Bytes in and out: a request that cannot be decoded is then answered as such, not as an internal error of the library.
      createCertificate: {
        path: PATH,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    },
    {
      createCertificate: (call: ServerUnaryCall<Buffer, Buffer>, answer: (error: Refusal | null, value?: Buffer) => void) => {
        createCertificate(options, call, call.request).then(
          (response) => answer(null, response),
          (error: unknown) => answer(refusalOf(options, error)),
        );
      },
    },
  );
}

/** One request, in phases; each phase has its own way to fail. */
async function createCertificate(options: CsrServiceOptions, call: IncomingCall, bytes: Buffer): Promise<Buffer> {
  const { authenticator, issuer, metrics, log } = options;
  metrics.requests.value += 1;
  const caller = await counting(
    () => authenticator.authenticate(call),
    () => (metrics.authenticationFailures.value += 1),
  );
  const request = await counting(
    () => decode(bytes),
    () => (metrics.csrFaults.value += 1),
  );
  const identity = await counting(
    () => identityFor(options, caller, request),
    () => (metrics.identityRefusals.value += 1),
  );
  const publicKey = await counting(
    () => readSigningRequest(request.csr),
    () => (metrics.csrFaults.value += 1),
  );
  const issued = await counting(
    () => issuer.issueWorkload(identity, publicKey, ttlOf(request)),
    () => metrics.signFaults.add(1, 'sign'),
  );
  metrics.issued.value += 1;
  log.info('certificate issued', {
    identity,
    caller: caller.identity,
    node: caller.pod?.nodeName,
    serial: issued.leaf.serialNumber.toLowerCase(),
    expires: issued.leaf.validToDate.toISOString(),
  });
  return Buffer.from(
    toBinary(IstioCertificateResponseSchema, create(IstioCertificateResponseSchema, { certChain: issued.chain })),
  );
}

function decode(bytes: Buffer): IstioCertificateRequest {
  try {
    return fromBinary(IstioCertificateRequestSchema, bytes);
  } catch (error) {
    throw new MeshError('bad_request', `not an IstioCertificateRequest: ${MeshError.from(error).message}`, { cause: error });
  }
}

function identityFor({ rule }: CsrServiceOptions, caller: Caller, request: IstioCertificateRequest): SpiffeId {
  const wanted = request.metadata?.['ImpersonatedIdentity'] ?? caller.identity;
  if (typeof wanted !== 'string') throw new MeshError('bad_request', 'metadata.ImpersonatedIdentity is not a string');
  const refusal = refuseIdentity(rule, caller, wanted);
  if (refusal !== undefined) throw new MeshError('policy_denied', `${caller.identity} is refused: ${refusal}`);
  // refuseIdentity has parsed it; this only tells the type system.
  if (!isSpiffeId(wanted)) throw new MeshError('bad_request', `"${wanted}" is not a SPIFFE ID`);
  return wanted;
}

/** Milliseconds; what is beyond a century is as good as one and stays a safe number. */
function ttlOf({ validityDuration }: IstioCertificateRequest): number {
  const century = 100n * 365n * 86_400n;
  return Number(validityDuration > century ? century : validityDuration) * 1000;
}

/** Runs a phase; counts when it fails. */
async function counting<T>(phase: () => T | Promise<T>, count: () => unknown): Promise<T> {
  try {
    return await phase();
  } catch (error) {
    count();
    throw error;
  }
}

/** The caller learns why it was refused, and nothing of faults inside. */
function refusalOf({ log }: CsrServiceOptions, thrown: unknown): Refusal {
  const error = MeshError.from(thrown);
  if (error.code === 'policy_denied') {
    log.warn('certificate refused', { error });
    return { code: status.UNAUTHENTICATED, details: error.message };
  }
  if (error.code === 'bad_request') return { code: status.INVALID_ARGUMENT, details: error.message };
  log.error('cannot issue a certificate', { error });
  return { code: status.INTERNAL, details: 'the CA cannot sign now; its log says why' };
}
