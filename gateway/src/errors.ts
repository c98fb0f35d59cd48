/**
 * The two ways to fail: one operation of a batch, or the whole request.
 *
 * Messages are read by strangers' logs: they name rules and limits, never a key or a value.
 */

/** cm_platform's error codes, as far as the gateway uses them. */
export type Code =
  | "invalid_argument"
  | "not_found"
  | "precondition_failed"
  | "rate_limited"
  | "unavailable"
  | "unauthenticated"
  | "unsupported"
  | "internal";

export interface FailureOptions {
  /** Seconds to wait before another attempt. */
  retryAfter?: number;
  /** The operation certainly had no effect. */
  notSent?: boolean;
}

/** One operation failed; the others of its batch go on. */
export class Failure extends Error {
  readonly code: Code;
  readonly retryAfter: number | undefined;
  readonly notSent: boolean | undefined;

  constructor(code: Code, message: string, options: FailureOptions = {}) {
    super(message);
    this.code = code;
    this.retryAfter = options.retryAfter;
    this.notSent = options.notSent;
  }
}

/** The request as a whole is refused; none of its operations was carried out. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: Code;

  constructor(status: number, code: Code, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }

  response(): Response {
    const error = { code: this.code, message: this.message };
    return Response.json({ error }, { status: this.status });
  }
}

/** The refusal that tells nobody what was wrong with a signature. */
export function unauthenticated(): Refusal {
  return new Refusal(401, "unauthenticated", "the request is not signed as this gateway demands");
}

export function invalid(message: string): Failure {
  return new Failure("invalid_argument", message);
}

/** The beginning of a name as it was given; half a character would be no JSON to some. */
export function shown(name: string): string {
  return name.slice(0, 64).toWellFormed();
}

/** Whether Cloudflare's runtime says that it lost the way to a product. */
export function isLost(error: unknown): boolean {
  const told = error as { retryable?: unknown; durableObjectReset?: unknown } | null | undefined;
  return told?.retryable === true || told?.durableObjectReset === true;
}
