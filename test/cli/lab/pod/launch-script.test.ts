import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import t from 'tap';
import { launchScript, quote } from '../../../../cli/lab/pod/launch-script.ts';

t.test('a quoted word is one word to the shell, whatever is in it', async () => {
  fc.assert(
    fc.property(
      fc.string().filter((text) => !text.includes('\0')),
      (text) => {
        const { stdout } = spawnSync('sh', ['-c', `printf %s ${quote(text)}`]);
        return stdout.equals(Buffer.from(text));
      },
    ),
    { numRuns: 30 },
  );
});

t.test('volumes are put in place inside the new root, and the user comes last', async (t) => {
  const script = launchScript({
    base: '/r/c.root',
    mounts: [
      { path: '/', how: 'layer' },
      { path: '/dev', how: 'share' },
    ],
    volumes: [{ source: '/r/volumes/v', target: '/var/run/v', file: false, readOnly: true }],
    hostname: 'one',
    resolvConf: '/r/resolv.conf',
    hosts: '/r/hosts',
    workingDir: "/it's",
    user: 1000,
  });
  const order = [
    'lowerdir=/,',
    'mount --rbind /dev',
    'mount --bind /r/volumes/v',
    'exec chroot',
    'remount,bind,ro',
    'cd ',
    'setpriv --clear-groups --reuid 1000 --',
  ];
  let at = -1;
  for (const part of order) {
    const found = script.indexOf(part, at + 1);
    t.ok(found > at, part);
    at = found;
  }
  t.equal(spawnSync('sh', ['-n'], { input: script }).status, 0, 'the shell can read it');
});
