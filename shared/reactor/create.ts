// Chooses the backend of the data plane.
import { MeshError } from '../errors.ts';
import type { TlsSettings } from '../tls/context.ts';
import type { Reactor } from './api.ts';
import { PortableReactor } from './portable/reactor.ts';

/** Values of `CULVERT_BACKEND`. */
export const BACKENDS = ['native', 'portable'] as const;
export type Backend = (typeof BACKENDS)[number];

export interface ReactorConfig extends TlsSettings {
  /** Default portable. */
  backend?: Backend;
}

export function createReactor({ backend = 'portable', ...tls }: ReactorConfig = {}): Reactor {
  if (backend === 'native')
    throw new MeshError(
      'missing_capability',
      'CULVERT_BACKEND=native: this build has no native backend; use CULVERT_BACKEND=portable',
    );
  return new PortableReactor(tls);
}
