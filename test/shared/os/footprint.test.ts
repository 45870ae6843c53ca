import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { giveBackMemory, unwrittenMappings } from '#shared/os/footprint.ts';

const entry = (line: string, anonymous: number): string =>
  `${line}\nSize:  8 kB\nRss:  8 kB\nAnonymous:  ${anonymous} kB\nVmFlags: rd\n`;

t.test('only pages of files that nobody has written are dropped', (t) => {
  const smaps = [
    entry('00400000-0082e000 r--p 00000000 fe:00 5357678      /usr/bin/node', 0),
    entry('0082e000-0092e000 r-xp 0042e000 fe:00 5357678      /usr/bin/node', 0),
    entry('0092e000-00a2e000 r--p 0052e000 fe:00 5357678      /usr/bin/node', 4),
    entry('00a2e000-00b2e000 rw-p 0062e000 fe:00 5357678      /usr/bin/node', 0),
    entry('00b2e000-00c2e000 r--s 0062e000 fe:00 5357679      /shared', 0),
    entry('7f0000000000-7f0000001000 r-xp 00000000 00:00 0    [vdso]', 0),
    entry('7f0000002000-7f0000003000 r--p 00000000 00:00 0 ', 0),
  ].join('');
  t.same(unwrittenMappings(smaps), [
    { start: 0x400000, end: 0x82e000 },
    { start: 0x82e000, end: 0x92e000 },
  ]);
  t.same(unwrittenMappings(''), []);
  t.end();
});

t.test('a process that gives back goes on with less', async (t) => {
  const before = await fileBytes();
  giveBackMemory();
  t.ok((await fileBytes()) < before / 2, 'pages of files are gone');
  t.equal('straße'.normalize('NFD').toUpperCase(), 'STRASSE');
  giveBackMemory();
  t.pass('twice does no harm');
});

t.test('malloc gives back what a thread had for a while, once it was told to', async (t) => {
  const program = join(import.meta.dirname, '..', '..', 'fixtures', 'malloc-of-threads.ts');
  const keptKilobytes = async (...args: string[]): Promise<number> =>
    Number((await promisify(execFile)(process.execPath, [program, ...args])).stdout);
  const kept = await keptKilobytes();
  const trimmed = await keptKilobytes('trimmed');
  t.ok(trimmed < kept - 8000, `${kept} KB without, ${trimmed} KB with it`);
});

async function fileBytes(): Promise<number> {
  return Number(/^RssFile:\s+(\d+) kB$/mu.exec(await readFile('/proc/self/status', 'utf8'))?.[1]);
}
