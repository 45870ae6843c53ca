// A small HTTP/1.1 server for the pages of operators and probes: admin, readiness, metrics, and admin sockets.
import { chmod, rename, rm } from 'node:fs/promises';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import type { ListenOptions } from 'node:net';
import { http } from '../node-http.ts';
import { MeshError } from '../errors.ts';
import type { Log } from './log.ts';

export interface AdminRequest {
  readonly method: string;
  /** Only path and query mean something. */
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  /** IP address of the client; '' over a Unix socket. */
  readonly remote: string;
  /** The whole body; a MeshError `bad_request` above `limit` bytes (default 1 MiB). */
  body(limit?: number): Promise<Buffer>;
}

export interface AdminResponse {
  /** Default 200. */
  status?: number;
  /** Content type; default `text/plain; charset=utf-8`. */
  type?: string;
  headers?: Readonly<Record<string, string>>;
  body: string | Uint8Array;
}

export interface AdminRoute {
  /** `/config_dump`; with a trailing `/` everything below it. */
  path: string;
  /** Default GET (which serves HEAD too); `*` is any. */
  methods?: readonly string[];
  /** One line for the index page. */
  summary?: string;
  handle(request: AdminRequest): AdminResponse | Promise<AdminResponse>;
}

/** A TCP port on the given addresses, or a Unix socket. */
export type AdminListen = { port: number; hosts: readonly string[] } | { path: string; mode: number };

/** Both loopback families; a host without IPv6 serves the first alone. */
export const LOCALHOST = ['127.0.0.1', '::1'] as const;
/** Every address of both families. */
export const WILDCARD = ['::'] as const;

const HEADER_TIMEOUT = 2000;
/** For the whole request, body and all. */
const REQUEST_TIMEOUT = 5000;
/** Without progress of an answer that its caller does not read. */
const STALL_TIMEOUT = 30_000;
const MAX_HEADER_BYTES = 8 * 1024;
const MAX_CONNECTIONS = 256;
const MAX_BODY = 1024 * 1024;

export function json(value: unknown, status = 200): AdminResponse {
  return { status, type: 'application/json', body: `${JSON.stringify(value, undefined, 2)}\n` };
}

/** One set of routes on one address. Unknown path 404, wrong method 405, thrown MeshError its status, any other throw 500. */
export class AdminServer implements AsyncDisposable {
  #servers: Server[] = [];
  #routes: readonly AdminRoute[];
  #log: Log;
  #port = 0;
  #path: string | undefined;

  constructor(routes: readonly AdminRoute[], log: Log) {
    this.#routes = routes;
    this.#log = log;
  }

  /** The port in use after `listen` (for port 0). */
  get port(): number {
    return this.#port;
  }

  /** Binds every address before it resolves; rejects when one is taken. */
  async listen(where: AdminListen): Promise<void> {
    if ('path' in where) {
      // Bound under another name until its mode is set: nobody connects in between, and one that a killed process left is replaced.
      const draft = `${where.path}.new`;
      await rm(draft, { force: true });
      await this.#bind({ path: draft }, where.path);
      await chmod(draft, where.mode);
      await rename(draft, where.path);
      this.#path = where.path;
      return;
    }
    this.#port = where.port;
    for (const host of where.hosts) {
      try {
        const server = await this.#bind({ port: this.#port, host }, `${host} port ${this.#port}`);
        const address = server.address();
        if (typeof address === 'object' && address) this.#port = address.port;
      } catch (error) {
        if (!(await this.#withoutIpv6(error, host, where.hosts))) throw error;
      }
    }
  }

  /** Stops accepting, ends idle connections, lets answers under way finish for a second. */
  async close(): Promise<void> {
    const closing = this.#servers.splice(0).map(
      (server) =>
        new Promise<void>((resolve) => {
          const force = setTimeout(() => server.closeAllConnections(), 1000);
          server.close(() => {
            clearTimeout(force);
            resolve();
          });
          server.closeIdleConnections();
        }),
    );
    await Promise.all(closing);
    if (this.#path !== undefined) await rm(this.#path, { force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** True when the host has no IPv6: `::1` is then left out and `::` becomes `0.0.0.0`. */
  async #withoutIpv6(error: unknown, host: string, hosts: readonly string[]): Promise<boolean> {
    const cause = error instanceof MeshError ? error.cause : error;
    const code = cause instanceof Error && 'code' in cause ? cause.code : '';
    if (!host.includes(':') || (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL')) return false;
    if (host === '::') await this.listen({ port: this.#port, hosts: ['0.0.0.0'] });
    return hosts.length > 1 || host === '::';
  }

  async #bind(options: ListenOptions, name: string): Promise<Server> {
    const server = http.createServer(
      {
        headersTimeout: HEADER_TIMEOUT,
        requestTimeout: REQUEST_TIMEOUT,
        connectionsCheckingInterval: 500,
        maxHeaderSize: MAX_HEADER_BYTES,
        noDelay: true,
      },
      (request, response) => void this.#serve(request, response),
    );
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(new MeshError('invalid_config', `cannot listen on ${name}: ${error.message}`, { cause: error }));
      });
      server.listen(options, resolve);
    });
    server.on('error', (error) => this.#log.warn('admin server failed', { address: name, error }));
    this.#servers.push(server);
    return server;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = await this.#answer(message);
    const body = typeof answer.body === 'string' ? Buffer.from(answer.body) : answer.body;
    response.writeHead(answer.status ?? 200, {
      'content-type': answer.type ?? 'text/plain; charset=utf-8',
      'content-length': body.length,
      ...answer.headers,
    });
    response.setTimeout(STALL_TIMEOUT, () => response.destroy());
    response.end(message.method === 'HEAD' ? undefined : body);
    // An unread body would be parsed as the next request.
    if (!message.complete) message.resume();
  }

  async #answer(message: IncomingMessage): Promise<AdminResponse> {
    const method = message.method ?? 'GET';
    const url = URL.parse(message.url ?? '/', 'http://localhost');
    if (!url) return { status: 400, body: 'bad request target\n' };
    const route = this.#routes.find(({ path }) =>
      path.length > 1 && path.endsWith('/') ? url.pathname.startsWith(path) : path === url.pathname,
    );
    if (!route) return { status: 404, body: 'not found\n' };
    const methods = route.methods ?? ['GET'];
    if (!methods.includes('*') && !methods.includes(method === 'HEAD' ? 'GET' : method))
      return {
        status: 405,
        headers: { allow: methods.join(', ') },
        body: `${method} is not allowed here; use ${methods.join(', ')}\n`,
      };
    try {
      const { headers, socket } = message;
      const body = (limit = MAX_BODY): Promise<Buffer> => readBody(message, limit);
      return await route.handle({ method, url, headers, remote: socket.remoteAddress ?? '', body });
    } catch (error) {
      if (!(error instanceof MeshError))
        this.#log.error('admin handler failed', { path: url.pathname, error: MeshError.from(error) });
      const fault = MeshError.from(error);
      return { status: fault.status, body: `${fault.message}\n` };
    }
  }
}

async function readBody(message: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new MeshError('bad_request', `the body is larger than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
