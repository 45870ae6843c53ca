import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { LevelFilter } from '#shared/telemetry/log-levels.ts';
import { Logging } from '#shared/telemetry/log.ts';
import type { LogFormat } from '#shared/telemetry/log.ts';

function logging(format: LogFormat, level?: string) {
  const lines: string[] = [];
  const clock = new FakeClock(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  const root = new Logging({ format, clock, sink: { write: (line) => lines.push(line) }, ...(level && { level }) });
  return { root, lines };
}

const FIELDS = {
  'src.addr': '10.1.0.5:41000',
  'dst.hbone_addr': '[fd00::1]:8080',
  'src.workload': 'web-1',
  'dst.service': undefined,
  bytes_sent: 120,
  duration: '9ms',
  error: new Error('io error: "reset"\nby peer'),
};

t.test('text, as Istio writes it', async (t) => {
  const { root, lines } = logging('text');
  root.scope('access').info('connection complete', FIELDS);
  t.equal(
    lines[0],
    '2026-01-02T03:04:05.678Z\tinfo\taccess\tconnection complete\t' +
      'src.addr=10.1.0.5:41000 dst.hbone_addr=[fd00::1]:8080 src.workload="web-1" bytes_sent=120 duration="9ms" ' +
      'error="io error: \\"reset\\"\\nby peer"\n',
  );
  root.scope('main').info('started');
  t.equal(lines[1], '2026-01-02T03:04:05.678Z\tinfo\tmain\tstarted\n');
});

t.test('what a peer sends cannot look like another line or field', async (t) => {
  const { root, lines } = logging('text');
  root.scope('a').warn('bad\nname\tx', { host: 'a" level=info b="', 'src.addr': '1.2.3.4:5 error="none"' });
  t.equal(
    lines[0],
    '2026-01-02T03:04:05.678Z\twarn\ta\tbad name x\thost="a\\" level=info b=\\"" src.addr="1.2.3.4:5 error=\\"none\\""\n',
  );
});

t.test('json, fields flat and never over the four of every line', async (t) => {
  const { root, lines } = logging('json');
  root.scope('access').warn('connection failed', { ...FIELDS, level: 'forged', big: 2n ** 64n });
  t.same(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    time: '2026-01-02T03:04:05.678Z',
    scope: 'access',
    message: 'connection failed',
    'src.addr': '10.1.0.5:41000',
    'dst.hbone_addr': '[fd00::1]:8080',
    'src.workload': 'web-1',
    bytes_sent: 120,
    duration: '9ms',
    error: 'io error: "reset"\nby peer',
    big: '18446744073709551616',
  });
  t.ok(lines[0]?.startsWith('{"level":"warn","time":'));
});

t.test('levels: default, by scope, changed while running', async (t) => {
  const { root, lines } = logging('text', 'warn,xds=debug,proxy=off');
  const xds = root.scope('xds');
  const proxy = root.scope('proxy');
  t.same([xds.enabled('debug'), xds.enabled('trace'), proxy.enabled('error')], [true, false, false]);
  root.scope('main').info('not written');
  t.equal(root.scope('main'), root.scope('main'));
  t.equal(lines.length, 0);
  root.filter.set('info,xds=error');
  t.same([xds.enabled('debug'), root.scope('main').enabled('info')], [false, true]);
  t.equal(root.filter.toString(), 'proxy=off,xds=error,info');
  root.filter.reset();
  t.equal(root.filter.toString(), 'proxy=off,xds=debug,warn');
  t.ok(xds.enabled('debug'));
});

t.test('the levels of the configuration are those that reset goes back to', async (t) => {
  const filter = new LevelFilter('info');
  filter.begin('warn,xds=debug');
  filter.set('trace');
  filter.reset();
  t.equal(filter.toString(), 'xds=debug,warn');
});

t.test('names of Istio’s modules are the scopes that they are shown as', async (t) => {
  const filter = new LevelFilter('info,ztunnel::xds=debug,hickory_server::server=off');
  t.equal(filter.toString(), 'hickory_server=off,xds=debug,info');
  t.equal(filter.rankOf('xds'), LevelFilter.rank('debug'));
});

t.test('modules within a scope, which are no scopes here, set the scope', async (t) => {
  for (const module of ['xds::client', 'ztunnel::xds::client']) {
    const filter = new LevelFilter(`info,${module}=trace`);
    t.equal(filter.rankOf('xds'), LevelFilter.rank('trace'), module);
    t.equal(filter.rankOf('proxy'), LevelFilter.rank('info'), module);
  }
});

t.test(
  'RUST_LOG=ztunnel=debug is for every scope that has no level of its own, but lines of connections and of names',
  async (t) => {
    const filter = new LevelFilter('warn,ztunnel=debug,xds=error');
    const rank = (scope: string) => filter.rankOf(scope);
    t.same(['ztunnel', 'proxy', 'inpod', 'main'].map(rank), Array(4).fill(LevelFilter.rank('debug')));
    t.equal(rank('xds'), LevelFilter.rank('error'));
    t.same(['access', 'dns'].map(rank), [LevelFilter.rank('warn'), LevelFilter.rank('warn')]);
    const copy = new LevelFilter(filter.toString());
    t.equal(copy.rankOf('proxy'), LevelFilter.rank('debug'), 'as in data workers, which are given the levels as text');
  },
);

t.test('what is no level changes nothing', async (t) => {
  const filter = new LevelFilter('info');
  for (const bad of ['', 'loud', 'xds', 'xds=', 'xds=loud', '=debug', 'a b=debug', 'a=debug=x', 'warn,oops'])
    t.throws(() => filter.set(bad), { code: 'invalid_config', message: /is not a log level/u }, bad);
  t.equal(filter.toString(), 'info');
  t.equal(filter.version, 0);
});
