// GET /metrics and /stats/prometheus (port 15020): the exposition, compressed as the scraper asks (facts: ztunnel 13).
import { promisify } from 'node:util';
import { brotliCompress, constants, deflate, gzip, zstdCompress } from 'node:zlib';
import type { AdminRequest, AdminResponse, AdminRoute } from './admin-server.ts';
import type { Metrics } from './metrics.ts';

type Compress = (body: Buffer) => Promise<Uint8Array>;

const brotli = promisify(brotliCompress);

/** In order of preference: cheapest for the size first. */
const ENCODINGS: readonly (readonly [name: string, compress: Compress])[] = [
  ['zstd', promisify(zstdCompress)],
  ['gzip', promisify(gzip)],
  ['br', (body) => brotli(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })],
  ['deflate', promisify(deflate)],
];

/** Below this many bytes compression costs more than it saves. */
const MIN_COMPRESSED = 1024;

export function metricsRoutes(metrics: Metrics): AdminRoute[] {
  const handle = async ({ headers }: AdminRequest): Promise<AdminResponse> => {
    const { type, body } = await metrics.render(headers.accept);
    return compressed({ type, body }, headers['accept-encoding'] ?? '');
  };
  return ['/metrics', '/stats/prometheus'].map((path) => ({ path, methods: ['*'], summary: 'metrics', handle }));
}

async function compressed(answer: { type: string; body: string }, accepted: string): Promise<AdminResponse> {
  const body = Buffer.from(answer.body);
  const encoding = body.length < MIN_COMPRESSED ? undefined : chooseEncoding(accepted);
  const vary = { vary: 'accept, accept-encoding' };
  if (!encoding) return { type: answer.type, headers: vary, body };
  const [name, compress] = encoding;
  return { type: answer.type, headers: { ...vary, 'content-encoding': name }, body: await compress(body) };
}

/** Ours by preference among what the header allows; `q=0` forbids (RFC 9110 12.5.3). */
function chooseEncoding(header: string): (typeof ENCODINGS)[number] | undefined {
  const allowed = new Set<string>();
  for (const part of header.toLowerCase().split(',')) {
    const [name = '', ...parameters] = part.split(';').map((text) => text.trim());
    if (!parameters.some((parameter) => /^q=0(\.0*)?$/u.test(parameter))) allowed.add(name);
  }
  return ENCODINGS.find(([name]) => allowed.has(name));
}
