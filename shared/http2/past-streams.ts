// What is remembered of streams that are not open, within bounds: which were reset here, so that what was under way to them is no fault of
// the peer's, and which ids the peer passed over, so that it can never use them (RFC 9113, sections 5.1 and 5.1.1).

/** Beyond so many the oldest are forgotten; a frame for one is then answered with one more RST_STREAM, which a peer ignores. */
const RESETS = 256;
const GAPS = 16;

export class PastStreams {
  /** Made by the first reset: most sessions never see one. */
  #resets: Uint32Array | undefined;
  #nextReset = 0;
  #gaps: { from: number; to: number }[] = [];

  resetHere(id: number): void {
    this.#resets ??= new Uint32Array(RESETS);
    this.#resets[this.#nextReset] = id;
    this.#nextReset = (this.#nextReset + 1) % RESETS;
  }

  wasResetHere(id: number): boolean {
    return this.#resets?.includes(id) ?? false;
  }

  /** The peer opened `id`, and `last` before it. */
  opened(id: number, last: number): void {
    if (id - last <= 2) return;
    this.#gaps.push({ from: last + 1, to: id - 1 });
    if (this.#gaps.length > GAPS) this.#gaps.shift();
  }

  wasPassedOver(id: number): boolean {
    return this.#gaps.some(({ from, to }) => id >= from && id <= to);
  }
}
