// Numbers on the command line.
import { InvalidArgumentError } from 'commander';

/** A whole number from 1, for the argument parser of an option. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('it is a whole number from 1');
  return value;
}
