// What a ztunnel of a lab has logged since some moment. Both its own form and that of Rust's ztunnel begin with a time and TABs.
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface LogLine {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly text: string;
}

export class ZtunnelLog {
  readonly #path: string;
  #from = 0;

  constructor(runDir: string, node: string) {
    this.#path = join(runDir, 'nodes', node, 'ztunnel.log');
  }

  /** What comes from now on counts. */
  async mark(): Promise<void> {
    this.#from = (await stat(this.#path)).size;
  }

  async lines(): Promise<LogLine[]> {
    await using file = await open(this.#path);
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(size - this.#from), 0, size - this.#from, this.#from);
    return parseLines(buffer.toString());
  }
}

/** Lines without a time are left out. */
export function parseLines(text: string): LogLine[] {
  return text.split('\n').flatMap((line) => {
    const time = Date.parse(line.slice(0, line.indexOf('\t')));
    return Number.isNaN(time) ? [] : [{ time, text: line.slice(line.indexOf('\t') + 1) }];
  });
}
