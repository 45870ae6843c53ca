// Options and listening of the control plane's gRPC servers (facts: control plane 2.1).
import type { Server, ServerCredentials, ServerOptions } from '@grpc/grpc-js';
import { MeshError } from '#shared/errors.ts';
import { formatHostPort } from '#shared/address.ts';

export const GRPC_OPTIONS: ServerOptions = {
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': -1,
  'grpc.max_concurrent_streams': 1000,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
};

/** The port in use; rejects when it is taken. `::` is every address of both families, of IPv4 alone on a host without IPv6. */
export async function listen(server: Server, ip: string, port: number, credentials: ServerCredentials): Promise<number> {
  try {
    return await bind(server, formatHostPort({ ip, port }), credentials);
  } catch (error) {
    if (ip !== '::') throw error;
    return bind(server, formatHostPort({ ip: '0.0.0.0', port }), credentials);
  }
}

function bind(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => {
      if (error) reject(new MeshError('invalid_config', `cannot listen on ${address}: ${error.message}`, { cause: error }));
      else resolve(bound);
    });
  });
}
