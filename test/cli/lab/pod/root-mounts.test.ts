import t from 'tap';
import { rootMounts } from '../../../../cli/lab/pod/root-mounts.ts';

const line = (path: string, type: string): string => `22 27 0:21 / ${path} rw,relatime shared:1 - ${type} source rw`;

t.test('file systems get a layer, windows into the kernel are shared or left out', async (t) => {
  const text = [
    line('/', 'ext4'),
    line('/proc', 'proc'),
    line('/proc/sys/fs/binfmt_misc', 'binfmt_misc'),
    line('/sys', 'sysfs'),
    line('/sys/fs/cgroup', 'cgroup2'),
    line('/dev', 'devtmpfs'),
    line('/dev/shm', 'tmpfs'),
    line('/run', 'tmpfs'),
    line('/run/netns', 'tmpfs'),
    line('/run/culvert/pods/x', 'tmpfs'),
    line('/home/with\\040blank', 'ext4'),
    line('/var', 'xfs'),
  ].join('\n');
  t.same(rootMounts(text, ['/run/culvert', '/run/netns']), [
    { path: '/', how: 'layer' },
    { path: '/dev', how: 'share' },
    { path: '/home/with blank', how: 'share' },
    { path: '/run', how: 'layer' },
    { path: '/sys', how: 'share' },
    { path: '/var', how: 'layer' },
  ]);
});
