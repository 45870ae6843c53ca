// Addresses of gRPC servers as configuration has them. Apart from dial.ts, so that reading configuration loads no gRPC.
import { MeshError } from '../errors.ts';

const ADDRESS = /^(?:(https?):\/\/)?([^/\s]+:\d+)\/?$/u;

/** Whether dial() takes it. */
export function isAddress(text: string): boolean {
  return ADDRESS.test(text);
}

export function parseAddress(address: string): { secure: boolean; target: string } {
  const match = ADDRESS.exec(address);
  if (!match) throw new MeshError('invalid_config', `"${address}" is not an address like https://istiod.istio-system.svc:15012`);
  return { secure: match[1] !== 'http', target: match[2] ?? '' };
}
