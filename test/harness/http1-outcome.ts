// What our HTTP/1.1 readers make of bytes that come in pieces, as one text that can be compared.
import { MeshError } from '#shared/errors.ts';
import { RequestReader, ResponseReader } from '#shared/http1/reader.ts';
import type { HeaderList } from '#shared/http2/headers.ts';

/**
 * A line per head, and per body with its trailers; the last one may be the status and reason of a refusal, behind which nothing is read.
 * Responses are taken as answers to a POST and two GETs.
 */
export function outcome(kind: 'request' | 'response', parts: readonly Buffer[]): string {
  const log: string[] = [];
  let body = '';
  const sink = {
    onHead: (head: unknown) => void log.push(JSON.stringify(head)),
    onBody: (chunk: Uint8Array) => void (body += Buffer.from(chunk).toString('latin1')),
    onEnd: (trailers: HeaderList) => {
      log.push(JSON.stringify([body, trailers]));
      body = '';
    },
  };
  const requests = new RequestReader(sink);
  const responses = new ResponseReader(sink);
  for (const method of ['POST', 'GET', 'GET']) responses.expect(method);
  const reader = kind === 'request' ? requests : responses;
  try {
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        const next = reader.push(part, at);
        if (next <= at) throw new Error('no progress');
        at = next;
      }
    }
    reader.end();
  } catch (error) {
    if (!(error instanceof MeshError) || error.status < 400) throw error;
    log.push(`${error.status} ${error.message}`);
  }
  return log.join('\n');
}
