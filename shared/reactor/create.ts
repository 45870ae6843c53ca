// Chooses the backend of the data plane.
import type { HostPort } from '../address.ts';
import { MeshError } from '../errors.ts';
import { openssl } from '../tls/openssl.ts';
import type { TlsSettings } from '../tls/settings.ts';
import type { Reactor } from './api.ts';
import { threadLoop } from './native/loop.ts';
import { NativeReactor } from './native/reactor.ts';
import { PortableReactor } from './portable/reactor.ts';

/** Values of `CULVERT_BACKEND`. */
export const BACKENDS = ['native', 'portable'] as const;
export type Backend = (typeof BACKENDS)[number];

export interface ReactorConfig extends TlsSettings {
  /** Default: native, and portable with a warning where that cannot run. */
  backend?: Backend;
  /** The native backend notes here which descriptors its thread has (1 at their numbers): who survives the thread can close them. */
  ledger?: Uint8Array;
  /** Called by the native backend for each connection that it refused because no descriptor was left; libuv refuses without a word. */
  onShed?: (listener: HostPort) => void;
  /** Called for each error that a handler threw. It has ended that connection and nothing else; without this it is a warning of Node's. */
  onFault?: (error: MeshError) => void;
}

/** A backend that was asked for by name and cannot run is an error. */
export function createReactor({ backend = defaultBackend(), ledger, onShed, onFault, ...tls }: ReactorConfig = {}): Reactor {
  if (backend === 'portable') return new PortableReactor(tls, onFault);
  requireNative();
  if (ledger) threadLoop().noteIn(ledger);
  return new NativeReactor(tls, { ...(onShed ? { onShed } : {}), ...(onFault ? { onFault } : {}) });
}

function defaultBackend(): Backend {
  try {
    requireNative();
    return 'native';
  } catch (thrown) {
    process.emitWarning(`${MeshError.from(thrown).message}; the slower portable one serves`);
    return 'portable';
  }
}

/** Throws where Node does not export what the native backend needs: its event loop, libuv and OpenSSL. */
function requireNative(): void {
  try {
    threadLoop();
    openssl();
  } catch (thrown) {
    throw new MeshError('missing_capability', `the native backend cannot run here: ${MeshError.from(thrown).message}`, {
      cause: thrown,
    });
  }
}
