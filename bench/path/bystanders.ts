// Labs stand still while another one is measured: this says how still, so that nobody has to believe it.
import { cpuBetween, readCpu } from '../measure/cpu.ts';
import type { PathLab } from './lab.ts';
import type { Subject } from './rows.ts';

export class Bystanders {
  readonly #labs: ReadonlyMap<Subject, Pick<PathLab, 'programs'>>;
  #cpu = 0;
  #seconds = 0;

  constructor(labs: ReadonlyMap<Subject, Pick<PathLab, 'programs'>>) {
    this.#labs = labs;
  }

  /** Share of one core that the programs of a lab used while another one was measured; undefined when there was no other. */
  get average(): number | undefined {
    return this.#seconds === 0 ? undefined : this.#cpu / this.#seconds;
  }

  /** As the work settles, which is of that subject. */
  async beside<T>(subject: Subject, work: Promise<T>): Promise<T> {
    const others = [...this.#labs].flatMap(([name, lab]) => (name === subject ? [] : lab.programs));
    if (others.length === 0) return await work;
    const before = await readCpu(others);
    const result = await work;
    const after = await readCpu(others);
    this.#cpu += cpuBetween(before, after).cpu;
    this.#seconds += (after.at - before.at) / 1000;
    return result;
  }
}
