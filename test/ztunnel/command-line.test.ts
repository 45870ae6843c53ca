import { spawnSync } from 'node:child_process';
import t from 'tap';
import { parseCommand } from '../../ztunnel/command-line.ts';

const run = (...args: string[]) =>
  spawnSync(process.execPath, ['ztunnel/main.ts', ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });

t.test('a proxy is what is started without a word, and as Istio’s image starts it', async (t) => {
  const proxy = { kind: 'proxy', takeover: false };
  t.strictSame(parseCommand([]), proxy);
  t.strictSame(parseCommand(['proxy']), proxy);
  t.strictSame(parseCommand(['proxy', 'ztunnel']), proxy);
  t.strictSame(parseCommand(['--takeover']), { kind: 'proxy', takeover: true });
  t.strictSame(parseCommand(['proxy', 'ztunnel', '--takeover']), { kind: 'proxy', takeover: true });
});

t.test('version and help tell and end; nothing is started', async (t) => {
  const version = run('version');
  t.match(version, { status: 0, stderr: '' });
  t.match(version.stdout, /^culvert ztunnel \d+\.\d+\.\d+\n$/u);
  const help = run('help');
  t.match(help, { status: 0, stderr: '' });
  t.match(help.stdout, /^usage: ztunnel /u);
  t.strictSame(parseCommand(['--help']), { kind: 'help' });
});

t.test('an argument that is not known starts nothing', async (t) => {
  for (const args of [['prxy'], ['--take-over'], ['ztunnel'], ['proxy', 'sidecar'], ['version', 'x']])
    t.throws(() => parseCommand(args), { code: 'invalid_config', message: /^unknown argument "/u }, args.join(' '));
  t.match(run('--take-over'), { status: 1, stdout: '', stderr: /^ztunnel: unknown argument "--take-over"\nusage: / });
});
