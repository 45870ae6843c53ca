// One error type for the whole mesh. The HTTP status of a refused tunnel or request and the response flag of its log line both
// derive from `code`, in the one table below; docs/errors.md lists it for operators.

/** Who is at fault, which decides whether retrying elsewhere can help. */
export type ErrorSource = 'upstream' | 'downstream' | 'internal';

interface CodeInfo {
  /** HTTP status that a proxy answers with. */
  status: number;
  /** `response_flags` label of metrics and access log. */
  flag: string;
  source: ErrorSource;
  /** True when another endpoint may be tried, provided no byte was sent. */
  retry: boolean;
}

export const ERROR_CODES = {
  bad_request: { status: 400, flag: 'CONNECT', source: 'downstream', retry: false },
  destination_mismatch: { status: 400, flag: 'CONNECT', source: 'downstream', retry: false },
  policy_denied: { status: 401, flag: 'DENY', source: 'downstream', retry: false },
  policy_changed: { status: 401, flag: 'DENY', source: 'internal', retry: false },
  self_call: { status: 503, flag: 'CONNECT', source: 'downstream', retry: false },
  unknown_source: { status: 503, flag: 'CONNECT', source: 'internal', retry: false },
  unknown_destination: { status: 503, flag: 'CONNECT', source: 'downstream', retry: false },
  no_healthy_upstream: { status: 503, flag: 'UH', source: 'upstream', retry: false },
  connect_failed: { status: 503, flag: 'CONNECT', source: 'upstream', retry: true },
  connect_timeout: { status: 503, flag: 'CONNECT', source: 'upstream', retry: true },
  hbone_timeout: { status: 503, flag: 'NETWORK_POLICY', source: 'upstream', retry: true },
  tunnel_refused: { status: 503, flag: 'CONNECT', source: 'upstream', retry: false },
  tunnel_unavailable: { status: 503, flag: 'CONNECT', source: 'upstream', retry: true },
  tls_failure: { status: 503, flag: 'TLS_FAILURE', source: 'upstream', retry: true },
  identity_mismatch: { status: 503, flag: 'TLS_FAILURE', source: 'upstream', retry: false },
  cert_revoked: { status: 503, flag: 'CERT_REVOKED', source: 'upstream', retry: false },
  no_certificate: { status: 503, flag: 'IDENTITY_ERROR', source: 'internal', retry: false },
  protocol_error: { status: 502, flag: 'H2_HANDSHAKE_FAILURE', source: 'upstream', retry: false },
  limit_reached: { status: 503, flag: 'UO', source: 'internal', retry: false },
  reset: { status: 503, flag: 'UC', source: 'upstream', retry: false },
  draining: { status: 503, flag: '-', source: 'internal', retry: false },
  invalid_config: { status: 500, flag: '-', source: 'internal', retry: false },
  missing_capability: { status: 500, flag: '-', source: 'internal', retry: false },
  not_found: { status: 404, flag: 'NR', source: 'internal', retry: false },
  internal: { status: 500, flag: 'CONNECT', source: 'internal', retry: false },
} as const satisfies Record<string, CodeInfo>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** What went wrong, in words an operator can act on: what, where (file, object, field, peer identity), what to do. */
export class MeshError extends Error {
  override readonly name = 'MeshError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get status(): number {
    return ERROR_CODES[this.code].status;
  }

  get flag(): string {
    return ERROR_CODES[this.code].flag;
  }

  get retry(): boolean {
    return ERROR_CODES[this.code].retry;
  }

  /** Wraps whatever was thrown; a MeshError passes through unchanged. */
  static from(thrown: unknown, code: ErrorCode = 'internal'): MeshError {
    if (thrown instanceof MeshError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new MeshError(code, message, { cause: thrown });
  }
}
