// How much memory this process has that the kernel cannot take back: its anonymous pages. Code and other mapped files are not counted; where
// memory is short the kernel drops them before it kills anybody.
import { closeSync, openSync, readSync } from 'node:fs';
import koffi from 'koffi';

/** Reads are one system call of some microseconds: the file stays open, so that they need no descriptor when none is left. */
export class OwnMemory implements Disposable {
  readonly #fd = openSync('/proc/self/statm', 'r');
  readonly #pageSize = pageSize();
  readonly #text = Buffer.alloc(128);

  /** Bytes. */
  anonymous(): number {
    const length = readSync(this.#fd, this.#text, 0, this.#text.length, 0);
    // Pages: all of the address space, those in memory, those of them that are of files or shared.
    const [, resident = '0', shared = '0'] = this.#text.toString('latin1', 0, length).split(' ');
    return (Number(resident) - Number(shared)) * this.#pageSize;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function pageSize(): number {
  return (koffi.load(null).func('int getpagesize()') as () => number)();
}
