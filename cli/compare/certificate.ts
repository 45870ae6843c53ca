// Gets the certificate that the sidecars of the comparison use. A program of its own, as it must run in the fabric's network
// namespace, where the control plane is: `node certificate.ts` with the environment below writes cert.pem, key.pem, root.pem.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CaClient } from '#shared/identity/ca-client.ts';
import { EnvReader } from '#shared/env.ts';
import { spiffeId } from '#shared/ids.ts';

const env = new EnvReader((name) => process.env[name]);
const address = env.required('CA_ADDRESS', 'the address of the CA');
const rootCert = env.required('CA_ROOT_CA', 'the roots that the CA is checked by');
const authToken = env.required('AUTH_TOKEN', 'the token of the service account');
const namespace = env.required('POD_NAMESPACE', 'the namespace of the service account');
const folder = env.required('OUTPUT_DIR', 'where the files go');
env.done();

using client = new CaClient({ endpoint: { address, rootCert, authToken, clusterId: 'Kubernetes' }, impersonate: false });
const identity = spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: 'default' });
const { chain, key, roots } = await client.fetch(identity, AbortSignal.timeout(10_000));
await writeFile(join(folder, 'cert.pem'), chain);
// Only ever valid in a lab that lives for seconds; the sidecars run as another user than this.
await writeFile(join(folder, 'key.pem'), key, { mode: 0o644 });
await writeFile(join(folder, 'root.pem'), roots);
