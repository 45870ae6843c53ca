// Chooses the backend of the data plane.
import type { TlsSettings } from '../tls/context.ts';
import type { Reactor } from './api.ts';
import { NativeReactor } from './native/reactor.ts';
import { PortableReactor } from './portable/reactor.ts';

/** Values of `CULVERT_BACKEND`. */
export const BACKENDS = ['native', 'portable'] as const;
export type Backend = (typeof BACKENDS)[number];

export interface ReactorConfig extends TlsSettings {
  /** Default portable. */
  backend?: Backend;
}

export function createReactor({ backend = 'portable', ...tls }: ReactorConfig = {}): Reactor {
  return backend === 'native' ? new NativeReactor(tls) : new PortableReactor(tls);
}
