/**
 * The frame of a batch: the length of its JSON (4 bytes, big endian), the JSON, the values.
 *
 * The JSON names a value by where it stands in the part behind it, so that bytes travel as bytes.
 */

import { concat, fromUtf8 } from "./bytes.ts";
import { Refusal } from "./errors.ts";

export const MEDIA_TYPE = "application/vnd.cm-platform.batch";

const PREFIX = 4;

/** Where a value stands in the values' part. */
export interface Span {
  offset: number;
  length: number;
}

export interface Frame {
  json: unknown;
  values: Uint8Array;
}

export function decodeFrame(body: Uint8Array): Frame {
  if (body.byteLength < PREFIX) {
    throw malformed("it ends within its length prefix");
  }
  const end = PREFIX + new DataView(body.buffer, body.byteOffset).getUint32(0);
  if (end > body.byteLength) {
    throw malformed("it ends within its JSON part");
  }
  return { json: parsed(body.subarray(PREFIX, end)), values: body.subarray(end) };
}

export function encodeFrame(
  json: Uint8Array,
  values: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  const prefix = new Uint8Array(PREFIX);
  new DataView(prefix.buffer).setUint32(0, json.byteLength);
  return concat([prefix, json, ...values]);
}

/** The bytes of a span, not copied; undefined for what is no span of these values. */
export function slice(values: Uint8Array, span: unknown): Uint8Array | undefined {
  if (typeof span !== "object" || span === null) {
    return undefined;
  }
  const { offset, length } = span as Partial<Record<keyof Span, unknown>>;
  if (!isSize(offset) || !isSize(length) || offset + length > values.byteLength) {
    return undefined;
  }
  return values.subarray(offset, offset + length);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch {
    throw malformed("its JSON part is not JSON in UTF-8");
  }
}

function malformed(reason: string): Refusal {
  return new Refusal(400, "invalid_argument", `the batch is malformed: ${reason}`);
}
