// An error that ends a gRPC call with a status of its own.
import type { status } from '@grpc/grpc-js';

export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: status;
  /** grpc-js sends this as the status message. */
  readonly details: string;

  constructor(code: status, details: string) {
    super(details);
    this.code = code;
    this.details = details;
  }
}
