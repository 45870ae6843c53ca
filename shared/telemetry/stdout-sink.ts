// Where log lines go by default: standard output, those of a few milliseconds together.
import { writeSync } from 'node:fs';
import type { LogSink } from './log.ts';

/** PIPE_BUF: the kernel does not mix a write of up to this many bytes with those of other threads and processes. */
const BATCH = 4096;
/** Lines wait for others to be written with, ms. A timer, as an immediate would end the turn of a native reactor for each line. */
const DELAY = 5;
/** Between two tries when a non-blocking pipe is full, ms. */
const PAUSE = 1;

/**
 * Writes are synchronous, so lines keep their order and the last ones are out before the process exits; a reader that does not read
 * holds the process up, as with Istio's proxies. Nothing is synced to a disk: that took half of the time of a busy proxy.
 */
export function stdoutSink(fd = 1): LogSink {
  let held = '';
  let size = 0;
  let scheduled = false;
  const flush = (): void => {
    if (size === 0) return;
    const bytes = Buffer.from(held);
    held = '';
    size = 0;
    writeAll(fd, bytes);
  };
  const onTime = (): void => {
    scheduled = false;
    flush();
  };
  return {
    write(line) {
      const length = Buffer.byteLength(line);
      if (size + length > BATCH) flush();
      held += line;
      size += length;
      if (scheduled) return;
      scheduled = true;
      setTimeout(onTime, DELAY);
    },
    flush,
  };
}

/** Writes now, whatever the reader does. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length)
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      // EPIPE when the reader went away: the process is told by its signals, not by its log.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
    }
}

const NEWLINE = 0x0a;

/** Writes whole lines, so that the kernel does not mix them with those of other threads: as many at a time as it takes at once. */
export function writeLines(fd: number, lines: Uint8Array, write = writeAll): void {
  let start = 0;
  while (start < lines.length) {
    let end = Math.min(start + BATCH, lines.length);
    if (end < lines.length) {
      const fits = lines.lastIndexOf(NEWLINE, end - 1) + 1;
      // A line longer than that goes alone.
      end = fits > start ? fits : lines.indexOf(NEWLINE, end) + 1 || lines.length;
    }
    write(fd, lines.subarray(start, end));
    start = end;
  }
}
