// A gRPC channel to the control plane. Everything that may rotate (roots, token) is read again for each channel or call, so that a
// component heals itself after a rotation by reconnecting.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { checkServerIdentity, getCACertificates } from 'node:tls';
import { Client, connectivityState, credentials, Metadata } from '@grpc/grpc-js';
import type { ChannelCredentials, ClientOptions } from '@grpc/grpc-js';
import { MeshError } from '../errors.ts';
import { parseAddress } from './address.ts';

/** How to reach a gRPC service of the control plane. */
export interface GrpcEndpoint {
  /** `https://HOST:PORT`, `http://HOST:PORT` (plaintext), or `HOST:PORT`, which means https. */
  address: string;
  /** Path of a PEM file, `SYSTEM`, or PEM text. Unused for http. */
  rootCert: string;
  /** Path of the token file, or the token itself; left out for no authentication. */
  authToken?: string | undefined;
  /** Sent as `clusterid`. */
  clusterId?: string | undefined;
  /** Accepted as the server's name beside HOST. */
  altHostname?: string | undefined;
  /** Further request headers. */
  headers?: Readonly<Record<string, string>> | undefined;
}

const KEEPALIVE_TIME = 30_000;
const KEEPALIVE_TIMEOUT = 10_000;

/** A fresh client; reads the roots. Rejects with a MeshError that names the file or address. */
export async function dial(endpoint: GrpcEndpoint, options: ClientOptions = {}): Promise<Client> {
  const { secure, target } = parseAddress(endpoint.address);
  const host = hostOf(target);
  const channel = secure ? await tlsCredentials(endpoint, host) : credentials.createInsecure();
  const sockets: Sockets = { open: new Set(), givenUp: false };
  const client = new Client(target, following(channel, sockets), {
    'grpc.keepalive_time_ms': KEEPALIVE_TIME,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_retries': 0,
    // A connection made with the roots of an earlier dial must not be picked up again.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.service_config_disable_resolution': 1,
    // An IP address cannot be a TLS server name (RFC 6066); the certificate is still checked for the address, below.
    ...(secure && isIP(host) !== 0 && { 'grpc.ssl_target_name_override': endpoint.altHostname ?? 'localhost' }),
    ...options,
  });
  socketsOf.set(client, sockets);
  return client;
}

interface Sockets {
  readonly open: Set<Socket>;
  /** The client was closed before it had a connection. */
  givenUp: boolean;
}

const socketsOf = new WeakMap<Client, Sockets>();

/** Closes a client: calls under way go on, but what has not become a connection ends, which grpc-js (1.14) would leave to the server. */
export function hangUp(client: Client): void {
  const sockets = socketsOf.get(client);
  const connecting = client.getChannel().getConnectivityState(false) === connectivityState.CONNECTING;
  client.close();
  if (!connecting || !sockets) return;
  sockets.givenUp = true;
  for (const socket of sockets.open) socket.destroy();
}

/** Keeps the open sockets of the channel. */
function following(channel: ChannelCredentials, sockets: Sockets): ChannelCredentials {
  const create = channel._createSecureConnector.bind(channel);
  channel._createSecureConnector = (...given) => {
    const connector = create(...given);
    const connect = connector.connect.bind(connector);
    connector.connect = (socket) => {
      sockets.open.add(socket);
      socket.once('close', () => sockets.open.delete(socket));
      if (sockets.givenUp) socket.destroy();
      return connect(socket);
    };
    return connector;
  };
  return channel;
}

/** The headers of one call; reads the token. Rejects with a MeshError when there is a token file and it is empty or unreadable. */
export async function callMetadata(endpoint: GrpcEndpoint): Promise<Metadata> {
  const metadata = new Metadata();
  if (endpoint.clusterId) metadata.set('clusterid', endpoint.clusterId);
  for (const [name, value] of Object.entries(endpoint.headers ?? {})) metadata.set(name.toLowerCase(), value);
  if (endpoint.authToken) metadata.set('authorization', `Bearer ${await readToken(endpoint.authToken)}`);
  return metadata;
}

function hostOf(target: string): string {
  return target.slice(0, target.lastIndexOf(':')).replace(/^\[(.*)\]$/u, '$1');
}

async function tlsCredentials(endpoint: GrpcEndpoint, host: string): Promise<ChannelCredentials> {
  const { altHostname } = endpoint;
  return credentials.createSsl(Buffer.from(await readRoots(endpoint.rootCert)), undefined, undefined, {
    checkServerIdentity: (_name, certificate) => {
      const fault = checkServerIdentity(host, certificate);
      return fault && altHostname ? checkServerIdentity(altHostname, certificate) : fault;
    },
  });
}

async function readRoots(source: string): Promise<string> {
  if (source === 'SYSTEM') return getCACertificates('system').join('\n');
  const text = source.includes('-----BEGIN') ? source : await readText(source, 'root certificate');
  if (!text.includes('-----BEGIN CERTIFICATE-----')) throw new MeshError('invalid_config', `${source}: holds no PEM certificate`);
  return text;
}

async function readToken(source: string): Promise<string> {
  const literal = !/^\.{0,2}\//u.test(source) && !existsSync(source);
  const token = (literal ? source : await readText(source, 'token')).trim();
  if (token === '') throw new MeshError('invalid_config', `${source}: the token file is empty`);
  return token;
}

async function readText(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new MeshError('invalid_config', `cannot read the ${what} ${path}: ${MeshError.from(error).message}`, { cause: error });
  }
}
