// TUNNEL_CONGESTION_CONTROL: by which rule TCP connections between the proxies of a mesh send (decision 0025).
import { readFileSync } from 'node:fs';
import type { EnvReader } from './env.ts';
import { MeshError } from './errors.ts';
import { closeFd } from './os/netns.ts';
import { clientTcp } from './os/socket-factory.ts';
import type { SocketOptions } from './reactor/api.ts';

const VARIABLE = 'TUNNEL_CONGESTION_CONTROL';
/** A name as the kernel has them: 15 characters at most. */
const NAME = /^[a-z0-9_-]{1,15}$/u;

/** `auto`, `system`, or the kernel's name of one. */
export function congestionSetting(read: EnvReader): string {
  const value = read.string(VARIABLE, 'auto');
  if (!NAME.test(value))
    read.faults.push(`${VARIABLE}="${value}": not auto, system, or one of net.ipv4.tcp_available_congestion_control`);
  return value;
}

/** What it means for a socket. */
export function congestionOption(setting: string): Pick<SocketOptions, 'congestion'> {
  return setting === 'system' ? {} : { congestion: setting };
}

/** Throws invalid_config when the kernel does not have it, or does not let this process have it: better at the start than for each tunnel. */
export function checkCongestion(setting: string): void {
  if (setting === 'auto' || setting === 'system') return;
  try {
    closeFd(clientTcp({ to: { ip: '127.0.0.1', port: 0 }, congestion: setting }));
  } catch (thrown) {
    const { message } = MeshError.from(thrown);
    throw new MeshError('invalid_config', `${VARIABLE}=${setting}: ${message}; the kernel has: ${available()}`, {
      cause: thrown,
    });
  }
}

function available(): string {
  try {
    return readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8').trim();
  } catch {
    return 'see net.ipv4.tcp_available_congestion_control';
  }
}
