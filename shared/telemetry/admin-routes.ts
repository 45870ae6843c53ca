// The routes every process has: index, readiness, shutdown.
import type { Readiness } from '../lifecycle/readiness.ts';
import type { AdminRoute } from './admin-server.ts';

/** GET /healthz/ready (port 15021): 200 `ready`, or 500 with what is pending. */
export function readinessRoute(readiness: Readiness, path = '/healthz/ready'): AdminRoute {
  return {
    path,
    summary: 'whether this process can serve',
    handle: () =>
      readiness.ready ? { body: 'ready\n' } : { status: 500, body: `not ready, pending: ${readiness.pending.join(', ')}\n` },
  };
}

/** POST /quitquitquit: the same as SIGTERM. */
export function quitRoute(requestStop: (why: string) => void): AdminRoute {
  return {
    path: '/quitquitquit',
    methods: ['POST'],
    summary: 'shut down in order',
    handle: () => {
      // After the answer has left, so that the caller sees it.
      setImmediate(() => requestStop('/quitquitquit'));
      return { body: 'shutdown now\n' };
    },
  };
}

/** `routes` and an index page at `/` that lists them. */
export function withIndex(title: string, routes: readonly AdminRoute[]): AdminRoute[] {
  const rows = routes.map(({ path, methods, summary }) => {
    const name = methods?.includes('POST') ? `<code>POST ${path}</code>` : `<a href="${path}"><code>${path}</code></a>`;
    return `<tr><td>${name}</td><td>${summary ?? ''}</td></tr>`;
  });
  const body = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1><table>${rows.join('')}</table></html>\n`;
  return [...routes, { path: '/', handle: () => ({ type: 'text/html; charset=utf-8', body }) }];
}
