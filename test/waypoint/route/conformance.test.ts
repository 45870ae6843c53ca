// The cases of the Gateway API's mesh conformance tests, from HTTPRoute to the backend that is chosen: translation and matching in
// one go, without a network (facts: waypoint B).
import { test } from 'tap';
import { routeTable } from '../../../controlplane/translate/envoy/routes.ts';
import type { HTTPHeader, HTTPRoute, HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRule } from '#shared/kube/gateway-api.ts';
import { Headers, type RequestHead } from '../../../waypoint/http/request.ts';
import { applyEdits, findRoute, pickShare, type Route, type RouteAction } from '../../../waypoint/route/table.ts';
import { readRouteTable } from '../../../waypoint/xds/routes.ts';
import { aRoute, service } from '../../controlplane/translate/envoy/mesh.ts';

type Case = [
  request: Partial<{ path: string; method: string; headers: Record<string, string | string[]> }>,
  expected: string | undefined,
];

const to = (name: string, ...matches: HTTPRouteMatch[]): HTTPRouteRule => ({ matches, backendRefs: [{ name, port: 8080 }] });

function head({ path = '/', method = 'GET', headers = {} }: Case[0]): RequestHead {
  const list = new Headers(Object.entries(headers).flatMap(([name, values]) => [values].flat().map((value) => [name, value])));
  return { method, path, authority: 'echo', scheme: 'http', protocol: 'HTTP/1.1', headers: list };
}

function table(routes: HTTPRoute[]): ReturnType<typeof readRouteTable> {
  const backends = (_namespace: string, name: string): string | undefined => (name === 'missing' ? undefined : name);
  return readRouteTable(routeTable({ name: 'chain', routes, backends, report: () => undefined, defaultCluster: 'default' }));
}

function find(rules: HTTPRouteRule[], request: Case[0]): Route | undefined {
  return findRoute(table([aRoute('r', [service('echo')], rules)]), head(request));
}

function forward(route: Route | undefined): Extract<RouteAction, { kind: 'forward' }> {
  if (route?.action.kind !== 'forward') throw new Error('not a forward');
  return route.action;
}

const backendOf = (route: Route | undefined): string | undefined => (route ? forward(route).shares[0]?.cluster : undefined);

test('MeshHTTPRouteMatching', async (t) => {
  const rules = [
    to('v1', { path: { type: 'PathPrefix', value: '/' } }, { headers: [{ name: 'version', value: 'one' }] }),
    to('v2', { path: { type: 'PathPrefix', value: '/v2' } }, { headers: [{ name: 'version', value: 'two' }] }),
  ];
  const cases: Case[] = [
    [{ path: '/' }, 'v1'],
    [{ path: '/example' }, 'v1'],
    [{ headers: { version: 'one' } }, 'v1'],
    [{ path: '/v2' }, 'v2'],
    [{ path: '/v2/' }, 'v2'],
    [{ path: '/v2/example' }, 'v2'],
    [{ path: '/', headers: { version: 'two' } }, 'v2'],
    [{ path: '/v2example' }, 'v1'],
    [{ path: '/foo/v2/example' }, 'v1'],
  ];
  for (const [request, expected] of cases) t.equal(backendOf(find(rules, request)), expected, JSON.stringify(request));
});

test('a route by a header matches any of its values', async (t) => {
  const rules = [to('v2', { headers: [{ name: 'version', value: 'two' }] }), to('v1')];
  const chosen = (...version: string[]): string | undefined => backendOf(find(rules, { headers: { version } }));
  t.equal(chosen('one', 'two'), 'v2');
  t.equal(chosen('two', 'one'), 'v2');
  t.equal(chosen('one', 'one'), 'v1');
  t.equal(chosen('one,two'), 'v1');
});

test('a query parameter is compared as it was sent', async (t) => {
  const rules = [
    to('v2', { queryParams: [{ name: 'q', value: 'a b' }] }, { queryParams: [{ name: 'q', value: 'a%20b' }] }),
    to('v1'),
  ];
  const chosen = (query: string): string | undefined => backendOf(find(rules, { path: `/?${query}` }));
  t.equal(chosen('q=a%20b'), 'v2');
  t.equal(chosen('x&q=a%20b&q=c'), 'v2');
  t.equal(chosen('q=c&q=a%20b'), 'v1', 'the first counts');
  t.equal(chosen('q=a+b'), 'v1');
  t.equal(chosen('q=a%20%62'), 'v1');
  t.equal(chosen('%71=a%20b'), 'v1');
  t.equal(chosen('Q=a%20b'), 'v1');
});

test('MeshHTTPRouteQueryParamMatching', async (t) => {
  const animal = (value: string): HTTPRouteMatch['queryParams'] => [{ name: 'animal', value }];
  const rules = [
    to('v1', { queryParams: animal('whale') ?? [] }),
    to('v2', { queryParams: animal('dolphin') ?? [] }),
    to('v1', { path: { value: '/path1' }, queryParams: animal('whale') ?? [] }),
    to('v2', { headers: [{ name: 'version', value: 'one' }], queryParams: animal('whale') ?? [] }),
    to(
      'v1',
      { path: { value: '/path3' }, queryParams: animal('shark') ?? [] },
      { path: { value: '/path4' }, headers: [{ name: 'version', value: 'three' }], queryParams: animal('kraken') ?? [] },
    ),
    to('v1', { path: { value: '/path5' } }),
    to('v2', { queryParams: animal('hydra') ?? [] }),
  ];
  const cases: Case[] = [
    [{ path: '/?animal=whale' }, 'v1'],
    [{ path: '/?animal=dolphin' }, 'v2'],
    [{ path: '/path1?animal=whale' }, 'v1'],
    [{ path: '/?animal=whale', headers: { version: 'one' } }, 'v2'],
    [{ path: '/path3?animal=shark' }, 'v1'],
    [{ path: '/path4?animal=kraken', headers: { version: 'three' } }, 'v1'],
    [{ path: '/path5?animal=hydra' }, 'v1'],
    [{ path: '/?animal=hydra' }, 'v2'],
    [{ path: '/?color=blue' }, undefined],
    [{ path: '/?animal=dog' }, undefined],
    [{ path: '/?animal=whaledolphin' }, undefined],
    [{ path: '/' }, undefined],
    [{ path: '/path3' }, undefined],
    [{ path: '/?animal=shark' }, undefined],
    [{ path: '/path4?animal=kraken' }, undefined],
  ];
  for (const [request, expected] of cases) t.equal(backendOf(find(rules, request)), expected, JSON.stringify(request));
});

test('precedence: exact, longer prefix, method, headers, age of the route', async (t) => {
  const rules = [
    to('short', { path: { value: '/a' } }),
    to('long', { path: { value: '/a/b' } }),
    to('exact', { path: { type: 'Exact', value: '/a/b' } }),
    to('post', { path: { value: '/a/b' }, method: 'POST' }),
    to('regex', { path: { type: 'RegularExpression', value: '/.*' } }),
  ];
  t.equal(backendOf(find(rules, { path: '/a/b' })), 'exact');
  t.equal(backendOf(find(rules, { path: '/a/b/c' })), 'long');
  t.equal(backendOf(find(rules, { path: '/a/b/c', method: 'POST' })), 'post');
  t.equal(backendOf(find(rules, { path: '/a/c' })), 'short');
  t.equal(backendOf(find(rules, { path: '/z' })), 'regex');
  const old = aRoute('zz', [service('echo')], [to('old', {})]);
  old.metadata.creationTimestamp = '2020-01-01T00:00:00Z';
  const young = aRoute('aa', [service('echo')], [to('young', {})]);
  young.metadata.creationTimestamp = '2021-01-01T00:00:00Z';
  t.equal(backendOf(findRoute(table([young, old]), head({}))), 'old', 'the older route wins a tie');
});

test('MeshTrafficSplit and MeshHTTPRouteWeight', async (t) => {
  const rule: HTTPRouteRule = {
    backendRefs: [
      { name: 'v1', port: 80, weight: 70 },
      { name: 'v2', port: 80, weight: 30 },
      { name: 'v3', port: 80, weight: 0 },
    ],
  };
  const { shares, totalWeight } = forward(find([rule], {}));
  t.same(
    shares.map(({ cluster, weight }) => [cluster, weight]),
    [
      ['v1', 70],
      ['v2', 30],
    ],
  );
  const counts: Record<string, number> = {};
  for (let index = 0; index < 1000; index += 1) {
    const cluster = pickShare(shares, totalWeight, index / 1000)?.cluster ?? '';
    counts[cluster] = (counts[cluster] ?? 0) + 1;
  }
  t.same(counts, { v1: 700, v2: 300 });
});

test('request header modifiers on rules and backends', async (t) => {
  const header = (name: string, value: string): HTTPHeader => ({ name, value });
  const modify: HTTPRouteFilter = {
    type: 'RequestHeaderModifier',
    requestHeaderModifier: {
      set: [header('X-Header-Set', 'set')],
      add: [header('X-Header-Add', 'add-appends-values')],
      remove: ['X-Header-Remove'],
    },
  };
  const given = { 'x-header-set': 'old', 'x-header-add': 'old', 'x-header-remove': 'old' };
  const onRule = find([{ filters: [modify], backendRefs: [{ name: 'v1', port: 80 }] }], {});
  const onBackend = find([{ backendRefs: [{ name: 'v1', port: 80, filters: [modify] }] }], {});
  for (const edits of [onRule?.edits, forward(onBackend).shares[0]?.edits]) {
    const { headers } = head({ headers: given });
    applyEdits(headers, edits?.request ?? { set: [], remove: [] });
    t.equal(headers.get('x-header-set'), 'set');
    t.equal(headers.get('x-header-add'), 'old,add-appends-values');
    t.equal(headers.get('x-header-remove'), undefined);
  }
});

test('path rewrites', async (t) => {
  const rewrite = (value: string, path: NonNullable<HTTPRouteFilter['urlRewrite']>['path']): HTTPRouteRule => ({
    matches: [{ path: { value } }],
    filters: [{ type: 'URLRewrite', urlRewrite: path ? { path } : {} }],
    backendRefs: [{ name: 'v1', port: 80 }],
  });
  const rules = [
    rewrite('/prefix/one', { type: 'ReplacePrefixMatch', replacePrefixMatch: '/one' }),
    rewrite('/strip-prefix', { type: 'ReplacePrefixMatch', replacePrefixMatch: '/' }),
    rewrite('/full/one', { type: 'ReplaceFullPath', replaceFullPath: '/one' }),
    rewrite('/a.b', { type: 'ReplacePrefixMatch', replacePrefixMatch: '' }),
    rewrite('/', { type: 'ReplacePrefixMatch', replacePrefixMatch: '/base' }),
  ];
  const cases: [string, string][] = [
    ['/prefix/one/two', '/one/two'],
    ['/prefix/one', '/one'],
    ['/prefix/one?q=1', '/one?q=1'],
    ['/strip-prefix/three', '/three'],
    ['/strip-prefix', '/'],
    ['/strip-prefix?q=/x', '/?q=/x'],
    ['/full/one/two?q=1', '/one?q=1'],
    ['/a.b/c', '/c'],
    ['/other', '/base/other'],
  ];
  for (const [path, expected] of cases) t.equal(forward(find(rules, { path })).rewritePath?.(path), expected, path);
});

test('redirects', async (t) => {
  const redirect = (value: string, requestRedirect: NonNullable<HTTPRouteFilter['requestRedirect']>): HTTPRouteRule => ({
    matches: [{ path: { value } }],
    filters: [{ type: 'RequestRedirect', requestRedirect }],
  });
  const rules = [
    redirect('/hostname-redirect', { hostname: 'example.org' }),
    redirect('/host-and-status', { hostname: 'example.org', statusCode: 301 }),
    redirect('/original-prefix', { path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/replacement-prefix' } }),
    redirect('/full', {
      path: { type: 'ReplaceFullPath', replaceFullPath: '/full-path' },
      statusCode: 301,
      hostname: 'example.org',
    }),
    redirect('/port', { port: 8083 }),
    redirect('/scheme', { scheme: 'https' }),
    ...[303, 307, 308].map((statusCode) => redirect(`/s${statusCode}`, { statusCode })),
  ];
  const cases: [string, number, string][] = [
    ['/hostname-redirect', 302, 'http://example.org/hostname-redirect'],
    ['/host-and-status', 301, 'http://example.org/host-and-status'],
    ['/original-prefix/lemon?x=1', 302, 'http://echo/replacement-prefix/lemon?x=1'],
    ['/full/a/b', 301, 'http://example.org/full-path'],
    ['/port', 302, 'http://echo:8083/port'],
    ['/scheme', 302, 'https://echo/scheme'],
    ['/s303', 303, 'http://echo/s303'],
    ['/s307', 307, 'http://echo/s307'],
    ['/s308', 308, 'http://echo/s308'],
  ];
  for (const [path, status, location] of cases) {
    const action = find(rules, { path })?.action;
    t.equal(action?.kind, 'redirect', path);
    if (action?.kind !== 'redirect') continue;
    t.equal(action.status, status, path);
    t.equal(action.location(head({ path })), location, path);
  }
});

test('backends that are not there and filters that cannot be honoured answer 500', async (t) => {
  const missing = forward(find([to('missing')], {}));
  t.equal(missing.clusterNotFound, 500);
  t.equal(missing.shares[0]?.cluster, 'invalid-backend');
  for (const rule of [
    { backendRefs: [] },
    { backendRefs: [{ name: 'v1', port: 80, weight: 0 }] },
    {
      filters: [{ type: 'RequestMirror', requestMirror: { backendRef: { name: 'v2', port: 80 } } }],
      backendRefs: [{ name: 'v1', port: 80 }],
    },
  ] satisfies HTTPRouteRule[]) {
    const action = find([rule], {})?.action;
    t.same([action?.kind, action?.kind === 'direct' && action.status], ['direct', 500]);
  }
});

test('without a route everything goes to the service itself', async (t) => {
  t.equal(backendOf(findRoute(table([]), head({ path: '/anything' }))), 'default');
});
