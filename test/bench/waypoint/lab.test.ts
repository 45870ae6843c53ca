// The lab of the waypoint rows: what their notes say is on, is.
import { execFileSync } from 'node:child_process';
import { test } from 'tap';
import { formatHostPort } from '#shared/address.ts';
import { runProgram } from '../../../cli/lab/run.ts';
import { startWaypointLab, SUBJECTS } from '../../../bench/waypoint/lab.ts';
import { HTTP_PATH } from '../../../bench/waypoint/mesh.ts';
import { noEnvoy } from '../../harness/envoy.ts';

const names = (): string => execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
const ours = `culvert-bench-${process.pid}-`;

test('both waypoints, between ends in namespaces of their own', { skip: noEnvoy, timeout: 60_000 }, async (t) => {
  {
    await using lab = await startWaypointLab('native');
    for (const subject of SUBJECTS)
      for (const route of ['plain', 'tunnelled'] as const) {
        const netns = lab.clientsOf(route);
        const url = `http://${formatHostPort(lab.target(subject, route))}`;
        const curl = async (...more: string[]): Promise<string> =>
          (await runProgram(['curl', '-s', '-m', '10', '-D', '-', '-o', '/dev/null', ...more], { netns })).stdout;
        t.match(await curl(url + HTTP_PATH), /^HTTP\/1\.1 200 OK\r\n[^]*x-served-by: mesh/u, `${subject} ${route}: routed`);
        // Only the last rule lets in by path; through a tunnel the one before it lets the client in whatever it asks for.
        const stranger = await curl(`${url}/elsewhere`);
        t.match(stranger, route === 'plain' ? / 403 / : / 404 /, `${subject} ${route}: the policy of 100 rules`);
        t.match(await curl('-X', 'DELETE', url + HTTP_PATH), / 403 /, `${subject} ${route}: the policy that denies`);
      }
    const { stdout } = await runProgram(['nft', 'list', 'table', 'inet', 'culvert'], { netns: lab.clientsOf('tunnelled') });
    t.match(stdout, /counter packets [1-9]\d* bytes \d+ redirect to :15001/u, 'clients of tunnels are redirected');
    t.match(names(), ours);
    await lab.check();
  }
  t.notMatch(names(), ours, 'nothing is left');
});
