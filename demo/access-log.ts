// Reads the access log of a node's ztunnel, where each connection leaves one line with both identities.
import { readFile } from 'node:fs/promises';
import path from 'node:path';

export type LogEntry = Readonly<Record<string, string>>;

/** The newest completed connection whose fields equal the wanted ones. */
export async function lastConnection(runDir: string, node: string, wanted: LogEntry): Promise<LogEntry | undefined> {
  const text = await readFile(path.join(runDir, 'nodes', node, 'ztunnel.log'), 'utf8');
  for (const line of text.split('\n').reverse()) {
    if (!line.includes('connection complete')) continue;
    const fields: Record<string, string> = {};
    for (const [, key = '', quoted, bare] of line.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S+))/gu)) fields[key] = quoted ?? bare ?? '';
    if (Object.entries(wanted).every(([key, value]) => fields[key] === value)) return fields;
  }
  return undefined;
}
