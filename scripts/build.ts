// `npm run build`: the programs of the mesh as bundles in dist/, as an image has them.
import { resolve } from 'node:path';
import { bundlePrograms } from '../cli/build/bundle.ts';

await bundlePrograms(resolve(import.meta.dirname, '..'));
