/** What came of one operation, as the reply's JSON has it. */

import { type Code, Failure } from "./errors.ts";

export interface Success {
  ok: true;
  [field: string]: unknown;
}

export interface Failed {
  ok: false;
  code: Code;
  message: string;
  /** Seconds. */
  retry_after?: number;
  not_sent?: boolean;
}

export type Outcome = Success | Failed;

export function succeeded(fields: Readonly<Record<string, unknown>>): Success {
  return { ok: true, ...fields };
}

export function failed({ code, message, retryAfter, notSent }: Failure): Failed {
  return {
    ok: false,
    code,
    message,
    ...(retryAfter === undefined ? {} : { retry_after: retryAfter }),
    ...(notSent === undefined ? {} : { not_sent: notSent }),
  };
}
