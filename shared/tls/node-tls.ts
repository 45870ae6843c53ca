// node:tls, loaded where the portable backend serves and nowhere else: it is 3 MB of every thread that imports it.
import type * as tls from 'node:tls';

export function nodeTls(): typeof tls {
  return process.getBuiltinModule('node:tls');
}
