// Code of the data path must not make old garbage (shared/lifecycle/young-garbage.ts).
import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '..', '..', '..');
/** Where objects live as long as a connection or a request. */
const DATA_PATH = [
  'shared/{hbone,http1,http2,lifecycle,reactor,tls}/**/*.ts',
  'ztunnel/{proxy,socks,telemetry}/**/*.ts',
  'waypoint/*.ts',
  'waypoint/{authz,cluster,filters,http,listener,route,telemetry}/**/*.ts',
];

/** Parameters in brackets may have brackets of their own, of defaults. */
const ASSIGNED =
  /[\w\])]\s*\.\s*#?\w+\s*(?:\?\?|\|\||&&)?=\s*(?:async\b\s*)?(?:function\b|\w+\s*=>|\((?:[^()]|\([^()]*\))*\)\s*=>)/gu;

/** Lines where a function is written in an assignment to a property. */
function assignedFunctions(text: string): number[] {
  const script = stripTypeScriptTypes(text);
  return Array.from(script.matchAll(ASSIGNED), ({ index }) => script.slice(0, index).split('\n').length);
}

t.test('no function of the data path is written in an assignment to a property', (t) => {
  const own =
    'a.b = () => 1;\nconst c = () => 1; a.b = c;\nthis.#d ??= function () {};\na[0].e = async (f: X, g = h()): Y =>\n  1;\na = { b: () => 1 };';
  t.strictSame(assignedFunctions(own), [1, 3, 4]);
  const files = globSync(DATA_PATH, { cwd: ROOT });
  t.ok(files.length > 100, `${files.length} files`);
  for (const name of files)
    for (const line of assignedFunctions(readFileSync(join(ROOT, name), 'utf8')))
      t.fail(`${name}:${line}: give the function a name first, or its garbage is old`);
  t.end();
});

/** Megabytes after each small collection, once there was a full one. */
function smallCollections(statement: string): number[] {
  const program = `
    class Stream { onEnd = undefined; data = [{}, {}, {}, {}]; }
    let last;
    const one = () => { const s = new Stream(); ${statement}; last = s; };
    for (let i = 0; i < 5000; i++) one();
    gc();
    process.stdout.write('collected\\n');
    for (let i = 0; i < 100000; i++) one();`;
  // Only unoptimised code makes them all: what the optimising compiler finds out of such a program is not what it finds out of a proxy.
  const flags = ['--expose-gc', '--trace-gc', '--max-semi-space-size=1', '--no-opt', '--no-maglev', '--no-sparkplug'];
  const output = execFileSync(process.execPath, [...flags, '-e', program], { encoding: 'utf8' });
  const after = output.slice(output.indexOf('collected'));
  return Array.from(after.matchAll(/Scavenge [\d.]+ \([\d.]+\) -> ([\d.]+)/gu), ([, size]) => Number(size));
}

t.test('such a function keeps what it refers to, and one that has a name first does not', (t) => {
  const grown = (sizes: readonly number[]): number => Math.max(...sizes) - Math.min(...sizes);
  const [written, named] = ['s.onEnd = () => s', 'const f = () => s; s.onEnd = f'].map((statement) =>
    smallCollections(statement),
  );
  t.ok(grown(named ?? []) < 1, `${grown(named ?? []).toFixed(1)} MB`);
  t.ok(grown(written ?? []) > 3, `${grown(written ?? []).toFixed(1)} MB: if V8 does so no more, neither need we`);
  t.end();
});
