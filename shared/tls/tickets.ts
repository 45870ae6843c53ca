// Session tickets of node:tls, which has no option for those of TLS 1.3: a server would send two with each handshake. Nobody could resume with
// them (SSL_OP_NO_TICKET makes them names of sessions, and node:tls keeps none), but they cost a write, and say otherwise.
import type { SecureContext } from 'node:tls';
import { inspect } from 'node:util';
import koffi from 'koffi';
import { checked } from '../os/pointer-check.ts';

interface ContextHandle {
  /** The SSL_CTX. */
  readonly _external: unknown;
}

interface Calls {
  readonly setNumTickets: (context: number, count: number) => number;
}

/** Null: this binary does not export it, and the tickets stay. */
let bound: Calls | null | undefined;

export function issueNoTickets({ context }: SecureContext): void {
  if (bound === undefined) bound = bind();
  const address = addressOf((context as ContextHandle)._external);
  if (address !== undefined) bound?.setNumTickets(address, 0);
}

/** Node shows where an External points, in hexadecimal digits, and gives it away in no other form: koffi takes only those of its own making. */
function addressOf(external: unknown): number | undefined {
  const [, digits] = /^\[External: (?:0x)?([\da-f]+)\]$/u.exec(inspect(external)) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

function bind(): Calls | null {
  try {
    const setNumTickets: Calls['setNumTickets'] = koffi.load(null).func('int SSL_CTX_set_num_tickets(size_t, size_t)');
    return checked({ setNumTickets }, { setNumTickets: 'address' });
  } catch {
    return null;
  }
}
