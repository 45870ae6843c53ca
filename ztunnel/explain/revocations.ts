// What the revocation lists in force say of the certificates that this ztunnel shows for its own pods. Each data worker follows the file for
// its connections; this is the same for those who only ask. Certificates of other nodes are seen in handshakes alone.
import { MeshError } from '#shared/errors.ts';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import type { RevokedCertificate } from '#shared/tls/revocation.ts';
import { Revocations, revokedBy } from '#shared/tls/revocation.ts';
import { chainOf } from '../proxy/relay-revocations.ts';
import type { NamedRoute, Route } from '../proxy/upstream.ts';
import type { Workload } from '../state/model.ts';
import type { ExplainView } from './explain.ts';

export interface ExplainedRevocation {
  readonly end: 'source' | 'destination';
  readonly identity: SpiffeId;
  /** Of the listed certificate, in hexadecimal: the end's own, or that of an issuer. */
  readonly serial: string;
}

export class OwnRevocations implements Disposable {
  readonly #lists = new Revocations();
  readonly #certificates: CertificateSource;
  readonly #file: Disposable;

  /** Follows `crlPath` until disposed. A fault of the file is for the workers to tell: here it changes nothing, as with them. */
  constructor(crlPath: string, certificates: CertificateSource) {
    this.#certificates = certificates;
    this.#file = followCrlFile(crlPath, this.#lists, () => undefined);
  }

  /**
   * For an identity of this node's own pods, whose certificate is fetched when it is not at hand. A MeshError: there is none to look up.
   * Undefined: it is good, or no list is known.
   */
  async look(identity: SpiffeId): Promise<RevokedCertificate | MeshError | undefined> {
    if (this.#lists.empty) return undefined;
    try {
      return this.#lists.find(chainOf(await this.#certificates.get(identity)));
    } catch (thrown) {
      return MeshError.from(thrown);
    }
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

interface RevocationFound {
  /** For people: what is not known. */
  readonly notes: readonly string[];
  readonly revoked?: ExplainedRevocation;
  /** Why there is no way. */
  readonly message?: string;
}

/** As far as this node knows: of the certificates that it shows for its own pods itself. */
export async function revocationOf(
  { revocations, serves }: Pick<ExplainView, 'revocations' | 'serves'>,
  source: Workload,
  route: Route | NamedRoute,
): Promise<RevocationFound> {
  const notes: string[] = [];
  for (const [end, workload] of endsOf(source, route)) {
    const found = serves(workload) ? await revocations?.look(workload.identity) : undefined;
    if (!found) continue;
    const { identity } = workload;
    if (found instanceof MeshError) {
      notes.push(`whether the certificate of the ${end} is revoked is not known: ${found.message}`);
      continue;
    }
    const message = `the certificate of the ${end}, ${identity}, is ${revokedBy(found)}`;
    return { notes, revoked: { end, identity, serial: found.serial }, message };
  }
  return { notes };
}

/** Whose certificates count, in the order in which a relay asks for them. */
function endsOf(source: Workload, route: Route | NamedRoute): [ExplainedRevocation['end'], Workload][] {
  // What is known by a name alone is looked up before its way is decided, but that it gets a tunnel is known.
  const tunnelled =
    route.kind === 'named' ? route.workload.protocol !== 'TCP' : route.kind === 'hbone' || route.kind === 'gateway';
  if (!tunnelled) return [];
  const ends: [ExplainedRevocation['end'], Workload][] = [['source', source]];
  // A waypoint and a gateway show certificates of their own, which are not held here.
  if (route.kind === 'hbone' && route.via === 'workload') ends.push(['destination', route.workload]);
  return ends;
}
