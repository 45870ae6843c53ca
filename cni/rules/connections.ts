// Whether connections pass through the ztunnel in a pod's network namespace, by the mark of its sockets.
import { PORT } from '#shared/ports.ts';
import { MeshError } from '#shared/errors.ts';
import { MARK_MASK, ZTUNNEL_MARK } from './constants.ts';
import { execInNetns } from './exec.ts';

/** Tunnels do not count: those that carry nothing are kept for some minutes, and each connection in them has a socket on this side. */
const OF_CONNECTIONS = `fwmark = ${ZTUNNEL_MARK}/${MARK_MASK} and sport != :${PORT.hbone} and dport != :${PORT.hbone}`;

/** Rejects when that cannot be told. */
export async function hasOpenConnections(netns: number): Promise<boolean> {
  const result = await execInNetns(netns, ['ss', '-Htn', 'exclude', 'listening', 'exclude', 'time-wait', OF_CONNECTIONS]);
  if (result.code !== 0) throw new MeshError('internal', `ss cannot tell which connections are open: ${result.stderr.trim()}`);
  return result.stdout.trim() !== '';
}
