// A control plane for one waypoint of the benchmark, as a program, so that it can run beside it in its network namespace. `plane.ts JSON`
// (PlaneOptions) prints `ready` on standard error; a configuration that is refused ends it, as nothing would be compared then.
import { startControlPlane } from './control-plane.ts';
import { type Addresses, envoyListeners, resourcesOf } from './mesh.ts';

export interface PlaneOptions {
  readonly port: number;
  readonly addresses: Addresses;
  /** For an Envoy. */
  readonly envoy: boolean;
}

const { port, addresses, envoy } = JSON.parse(process.argv[2] ?? '') as PlaneOptions;
const resources = resourcesOf(addresses);
const listeners = envoy ? envoyListeners(resources, addresses) : resources.listeners;
await startControlPlane({ ...resources, listeners }, port, (line) => {
  process.stderr.write(`${line}\n`);
  process.exit(1);
});
process.stderr.write('ready\n');
