// Makes shared/gen/ (TypeScript messages) from shared/proto/ and from the Envoy v3 protos that @grpc/grpc-js-xds ships.
// Run at install; nothing it makes is committed.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const work = path.join(root, 'node_modules', '.cache', 'culvert-protos');
const vendored = path.join(root, 'node_modules', '@grpc', 'grpc-js-xds', 'deps');
const modules = ['envoy-api', 'xds', 'protoc-gen-validate', 'googleapis'];

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
for (const name of modules) cpSync(path.join(vendored, name), path.join(work, name), { recursive: true });
cpSync(path.join(root, 'shared', 'proto'), path.join(work, 'culvert'), { recursive: true });

// The shipped validate.proto is older than the Envoy protos beside it: `ignore_empty` is used there and not declared.
// Only annotations use it, so any free field number will do.
const validate = path.join(work, 'protoc-gen-validate', 'validate', 'validate.proto');
const rules = /^(message (?:String|Repeated|Bytes|Map|Float|Double|U?Int32|U?Int64)Rules \{)$/gmu;
const declared = readFileSync(validate, 'utf8');
if (!declared.includes('ignore_empty')) {
  writeFileSync(validate, declared.replace(rules, '$1\n  optional bool ignore_empty = 1026;'));
}

const listed = ['culvert', ...modules].map((name) => `  - path: ${name}\n`).join('');
writeFileSync(path.join(work, 'buf.yaml'), `version: v2\nmodules:\n${listed}`);
const bin = path.join(root, 'node_modules', '.bin');
execFileSync(path.join(bin, 'buf'), ['generate', '--template', path.join(root, 'buf.gen.yaml'), '--output', root], {
  cwd: work,
  stdio: 'inherit',
  env: { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
});
