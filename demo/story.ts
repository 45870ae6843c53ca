// The chapters of the demo, in order. Each one says what it shows, does it with the tool, and checks it on real traffic.
import path from 'node:path';
import { eventually, type Outcome, type Session } from './session.ts';
import { wiretap } from './wiretap.ts';
import { lastConnection } from './access-log.ts';

export interface Story {
  session: Session;
  runDir: string;
  samples: string;
  /** The connection to redis that was opened before enrolment: how often it answered, and as which redis client. */
  cart: { replies: number; ids: Set<string> };
}

const as = (pod: string, namespace: string, ...command: string[]): string[] => ['exec', pod, '-n', namespace, '--', ...command];
const alice = (...command: string[]): string[] => as('alice', 'customers', ...command);
const bob = (...command: string[]): string[] => as('bob', 'customers', ...command);
const stranger = (...command: string[]): string[] => as('stranger', 'outside', ...command);
const get = (url: string, ...more: string[]): string[] => ['curl', '-sS', '-m', '5', ...more, url];
const status = (url: string, ...more: string[]): string[] => get(url, '-o', '/dev/null', '-w', '%{http_code}', ...more);
const ping = ['timeout', '3', 'redis-cli', '-h', 'cart.shop', 'ping'];
const pong = (outcome: Outcome): boolean => outcome.stdout.trim() === 'PONG';

export async function start({ session, samples }: Story): Promise<void> {
  session.title('A shop on two nodes: nginx, a Node catalog in two versions, redis, and customers');
  const up = await session.culvert(['up', path.join(samples, 'shop'), '--detach', '--wait']);
  if (up.code !== 0) throw new Error(`culvert up failed: ${up.stderr.trim().split('\n').at(-1) ?? ''}`);
  await session.culvert(['get', 'pods', '-A']);
}

export async function plaintext({ session, runDir, cart }: Story): Promise<void> {
  session.title('Before: plain TCP, readable by anyone on the way');
  const tap = await wiretap(runDir, 'node-2');
  const answer = await session.culvert(alice(...get('http://web.shop/secret-before')));
  session.check('alice reaches the catalog through nginx', answer.stdout.includes('"path":"/secret-before"'));
  session.check('the request can be read on the wire between the nodes', await tap.saw('secret-before'));
  tap.stop();

  session.note('A connection to redis is opened now and stays open through everything that follows.');
  const loop = 'while sleep 0.2; do echo "CLIENT ID"; done | redis-cli -h cart.shop';
  session.background(alice('sh', '-c', loop), (line) => {
    if (!/^\d+$/u.test(line)) return;
    cart.replies += 1;
    cart.ids.add(line);
  });
  await eventually(
    () => Promise.resolve(cart.replies),
    (replies) => replies >= 2,
  );
  session.check('the long-lived connection answers', cart.replies >= 2);
}

export async function mesh({ session, runDir, cart }: Story): Promise<void> {
  session.title('Label two namespaces: every new connection is mTLS');
  await session.culvert(['label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient']);
  await session.culvert(['label', 'namespace', 'customers', 'istio.io/dataplane-mode=ambient']);
  const enrolled = await session.culvert(['wait', 'enrolled', '-n', 'shop', '-n', 'customers', '--timeout', '20s']);
  session.check('all pods of both namespaces are enrolled, none was restarted', enrolled.code === 0);

  const tap = await wiretap(runDir, 'node-2');
  const answer = await session.culvert(alice(...get('http://web.shop/secret-after')));
  session.check(
    'alice still reaches the catalog',
    answer.stdout.includes('"path":"/secret-after"'),
    answer.stderr.trim() || undefined,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  session.check(
    'the request can no longer be read on the wire',
    !(await tap.saw('secret-after', 0)) && (await tap.sawPort(15008)),
  );
  tap.stop();
  const line = await eventually(
    () => lastConnection(runDir, 'node-2', { 'dst.workload': 'web-0', direction: 'inbound' }),
    (entry) => entry !== undefined,
    5,
  );
  session.check(
    'source identity',
    line?.['src.identity'] === 'spiffe://cluster.local/ns/customers/sa/alice',
    line?.['src.identity'] ?? 'none',
  );
  session.check(
    'destination identity',
    line?.['dst.identity'] === 'spiffe://cluster.local/ns/shop/sa/web',
    line?.['dst.identity'] ?? 'none',
  );

  const before = cart.replies;
  await new Promise((resolve) => setTimeout(resolve, 700));
  session.check(
    'the connection from before enrolment lives on',
    cart.replies > before && cart.ids.size === 1,
    `${cart.replies} answers on one connection`,
  );
}

export async function policies({ session, samples }: Story): Promise<void> {
  session.title('STRICT: plaintext from outside the mesh is refused');
  const open = await session.culvert(stranger(...status('http://web.shop/')));
  session.check('before, a stranger without an identity gets in', open.stdout === '200', open.stdout);
  await session.culvert(['apply', '-f', path.join(samples, 'shop-policies', 'strict.yaml')]);
  const refused = await eventually(
    () => session.culvert(stranger(...status('http://web.shop/')), { silent: true }),
    (outcome) => outcome.code !== 0,
  );
  session.check('now the stranger is refused', refused.code !== 0 && refused.stdout === '000', refused.stderr.trim());
  const welcome = await session.culvert(alice(...status('http://web.shop/')));
  session.check('alice is not', welcome.stdout === '200', welcome.stdout);

  session.title('An L4 policy by service account: only alice may use the cart');
  session.check('before, bob may', pong(await session.culvert(bob(...ping))));
  await session.culvert(['apply', '-f', path.join(samples, 'shop-policies', 'cart-alice-only.yaml')]);
  const denied = await eventually(
    () => session.culvert(bob(...ping), { silent: true }),
    (outcome) => !pong(outcome),
  );
  session.check('bob is denied', !pong(denied), (denied.stderr || denied.stdout).trim());
  session.check('alice is allowed', pong(await session.culvert(alice(...ping))));
}

export async function waypoint({ session, samples, cart }: Story): Promise<void> {
  session.title('A waypoint for the service account of the catalog: L7 policy, only there');
  const catalog = 'http://catalog.shop:8080/';
  const before = await session.culvert(alice(...status(catalog, '-X', 'DELETE')));
  session.check('without a waypoint DELETE passes', before.stdout === '200', before.stdout);
  const applied = await session.culvert([
    'waypoint',
    'apply',
    'catalog',
    '--for',
    'service',
    '--service-account',
    'catalog',
    '--namespace',
    'shop',
    '--wait',
  ]);
  session.check('the waypoint is programmed', applied.code === 0);
  await session.culvert(['apply', '-f', path.join(samples, 'shop-policies', 'catalog-read-only.yaml')]);
  await session.culvert(['waypoint', 'list', '-A']);
  const denied = await eventually(
    () => session.culvert(alice(...status(catalog, '-X', 'DELETE')), { silent: true }),
    (outcome) => outcome.stdout === '403',
  );
  session.check('DELETE is refused with 403', denied.stdout === '403', denied.stdout);
  const allowed = await session.culvert(alice(...status(catalog)));
  session.check('GET is answered with 200', allowed.stdout === '200', allowed.stdout);

  session.title('Split the traffic 90 to 10');
  await session.culvert(['apply', '-f', path.join(samples, 'shop-policies', 'catalog-canary.yaml')]);
  const requests = 400;
  const many = [
    'sh',
    '-c',
    `curl -sS --no-progress-meter --parallel --parallel-max 4 'http://catalog.shop:8080/item/[1-${requests}]' | grep -o '"version":"v[12]"' | sort | uniq -c`,
  ];
  const share = (outcome: Outcome): number => Number(/(\d+) "version":"v2"/u.exec(outcome.stdout)?.[1] ?? 0) / requests;
  // 400 draws at 10 %: four standard deviations are 6 percentage points.
  const split = await eventually(
    () => session.culvert(alice(...many)),
    (outcome) => Math.abs(share(outcome) - 0.1) <= 0.06,
    5,
  );
  session.check(
    'about one request in ten goes to v2',
    Math.abs(share(split) - 0.1) <= 0.06,
    `${(share(split) * 100).toFixed(1)} % of ${requests}`,
  );

  session.title('Remove the waypoint: back to L4');
  await session.culvert(['waypoint', 'delete', 'catalog', '--namespace', 'shop']);
  const after = await eventually(
    () => session.culvert(alice(...status(catalog, '-X', 'DELETE')), { silent: true }),
    (outcome) => outcome.stdout === '200',
  );
  session.check('DELETE passes again', after.stdout === '200', after.stdout);
  const replies = cart.replies;
  await new Promise((resolve) => setTimeout(resolve, 700));
  session.check(
    'the first connection to redis still lives',
    cart.replies > replies && cart.ids.size === 1,
    `${cart.replies} answers on one connection`,
  );
}

export async function memory({ session }: Story): Promise<void> {
  session.title('What it costs: memory beside sidecar mode');
  session.note('Twelve pods in a mesh of a hundred services, on two nodes: first ambient, then with a real Envoy in each pod.');
  const compared = await session.culvert(['compare', 'memory', '--pods', '12', '--services', '100'], { timeout: 90_000 });
  session.check('ambient and sidecar mode were measured side by side', compared.code === 0 && /saving/iu.test(compared.stdout));
}
