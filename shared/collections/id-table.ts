// A set of objects that come and go by the thousand a second, in place of Map and Set. Those are copied again and again when their entries
// change, and each dead copy, once it is old, keeps the next one alive with all that was in it: after one full collection of garbage
// everything that ever was in such a set waits for the next one (V8's OrderedHashTable; docs/decisions/0027-what-v8-keeps.md).

export interface Numbered {
  /** Spreads the members over the table: best when consecutive. Two members may have the same one. */
  readonly id: number;
}

/** Small integers of V8, on every platform. */
const LARGEST_ID = 2 ** 30 - 1;
const SMALLEST_TABLE = 8;

let last = 0;

/** Consecutive numbers of this thread, from 1; they begin anew after a thousand million. */
export function nextId(): number {
  last = last === LARGEST_ID ? 1 : last + 1;
  return last;
}

/** Members by identity, and by id where they differ in it. Open addressing, at most three quarters full; in no order. */
export class IdTable<T extends Numbered> {
  #slots: (T | undefined)[] = emptySlots<T>(SMALLEST_TABLE);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** A member of the id. */
  get(id: number): T | undefined {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = placeOf(id, mask);
    for (let member = slots[at]; member && member.id !== id; member = slots[at]) at = (at + 1) & mask;
    return slots[at];
  }

  has(member: T): boolean {
    return this.#slots[this.#find(member)] !== undefined;
  }

  /** Twice counts once. */
  add(member: T): void {
    if (this.#size * 4 >= this.#slots.length * 3) this.#resize(this.#slots.length * 2);
    const at = this.#find(member);
    if (this.#slots[at]) return;
    this.#slots[at] = member;
    this.#size += 1;
  }

  /** Whether it was a member. */
  delete(member: T): boolean {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let gap = this.#find(member);
    if (!slots[gap]) return false;
    this.#size -= 1;
    slots[gap] = undefined;
    // Who stands behind a gap, away from his own place, moves into it.
    for (let at = (gap + 1) & mask; ; at = (at + 1) & mask) {
      const other = slots[at];
      if (!other) break;
      const home = placeOf(other.id, mask);
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      slots[gap] = other;
      slots[at] = undefined;
      gap = at;
    }
    if (slots.length > 64 && this.#size * 8 < slots.length) this.#resize(slots.length / 2);
    return true;
  }

  /** A copy: callers add and delete while they walk. */
  all(): T[] {
    return this.#slots.filter((member) => member !== undefined);
  }

  /** Where the member is, or would be. */
  #find(member: T): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = placeOf(member.id, mask);
    for (let other = slots[at]; other && other !== member; other = slots[at]) at = (at + 1) & mask;
    return at;
  }

  #resize(length: number): void {
    const members = this.all();
    this.#slots = emptySlots(length);
    for (const member of members) this.#slots[this.#find(member)] = member;
  }
}

/** Consecutive ids, and those of one side of HTTP/2, which are all odd or all even, have places of their own, far from each other. */
function placeOf(id: number, mask: number): number {
  return (Math.imul(id, 0x9e3779b1) >>> 1) & mask;
}

function emptySlots<T>(length: number): (T | undefined)[] {
  return Array.from<T | undefined>({ length }).fill(undefined);
}
