// The catalog service: says which version answered, and what it was asked.
import { createServer } from 'node:http';

const version = process.env['VERSION'] ?? 'unknown';
createServer((request, response) => {
  if (request.url === '/healthz') {
    response.end('ok\n');
    return;
  }
  response.setHeader('content-type', 'application/json');
  response.setHeader('x-catalog-version', version);
  response.end(
    `${JSON.stringify({ service: 'catalog', version, method: request.method, path: request.url, from: request.socket.remoteAddress })}\n`,
  );
}).listen(8080);
