// When code of ours throws in a callback of a stream: its connection ends, with this error, and nothing else does.
import { formatHostPort, type HostPort } from '../address.ts';
import { MeshError } from '../errors.ts';

/** What a handler threw, with the connection that it was about. */
export function handlerFault(remote: HostPort, thrown: unknown): MeshError {
  const message = `${formatHostPort(remote)}: closed because of a fault of this process: ${MeshError.from(thrown).message}`;
  return new MeshError('internal', message, { cause: thrown });
}

/** Tells of a fault that nobody asked to be told of. */
export function warnOf(error: MeshError): void {
  process.emitWarning(error);
}

/** A fault as fields of a log line: where it happened counts as much as what it says. */
export function faultFields(error: MeshError): { error: string; stack: string } {
  const { cause } = error;
  return { error: error.message, stack: (cause instanceof Error ? cause.stack : error.stack) ?? '' };
}

/** The reason of a stream that ended because code of ours threw. */
export function faultOfThisProcess(thrown: unknown): MeshError {
  const message = `closed because of a fault of this process: ${MeshError.from(thrown).message}`;
  return new MeshError('internal', message, { cause: thrown });
}
