// errno to names and MeshErrors: every failed system call is told as what was tried, where, and the kernel's reason.
import { getSystemErrorMap } from 'node:util';
import { MeshError, type ErrorCode } from '../errors.ts';

/** `ECONNREFUSED` for 111. */
export function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}

/** The reason of a failed call, kept as the `cause` of the MeshError so that callers can branch on `code`. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly errno: number;
  /** `EADDRINUSE` and so on. */
  readonly code: string;
  readonly syscall: string;

  constructor(syscall: string, errno: number) {
    super(`${syscall}: ${getSystemErrorMap().get(-errno)?.[1] ?? 'unknown error'} (${errnoName(errno)})`);
    this.errno = errno;
    this.code = errnoName(errno);
    this.syscall = syscall;
  }
}

const CODES: Record<string, ErrorCode> = {
  EPERM: 'missing_capability',
  EACCES: 'missing_capability',
  ECONNREFUSED: 'connect_failed',
  EHOSTUNREACH: 'connect_failed',
  ENETUNREACH: 'connect_failed',
  ENOENT: 'not_found',
  EMFILE: 'limit_reached',
  ENFILE: 'limit_reached',
  ETIMEDOUT: 'connect_timeout',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
};

/** `what` names the thing that was tried: `listen on 127.0.0.1:80`. */
export function systemError(what: string, syscall: string, errno: number): MeshError {
  const cause = new SystemError(syscall, errno);
  const hint = cause.code === 'EPERM' ? '; run with CAP_NET_ADMIN and CAP_SYS_ADMIN' : '';
  return new MeshError(CODES[cause.code] ?? 'internal', `${what}: ${cause.message}${hint}`, { cause });
}

/** The errno name behind an error of this folder or of Node itself; '' when there is none. */
export function errorCode(thrown: unknown): string {
  if (thrown instanceof MeshError) return errorCode(thrown.cause);
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
}
