/** Counters: decimal text, bare or within an entry of the cache. */

import { concat, utf8 } from "./bytes.ts";
import { Failure, invalid } from "./errors.ts";

/** An entry begins: mark, flags, stamp, scope, fresh until, expires (cm_platform/cache/entry.py). */
const HEADER = 34;
const MARK = 0xc5;
const COUNTER = 3;
const STAMP = 2;

/** Of 64 bit, with the sign. */
const MAX_DIGITS = 20;

export interface Counted {
  /** The bytes to keep. */
  kept: Uint8Array;
  value: bigint;
  /** Of the entry that is kept; null for bare text. */
  stamp: bigint | null;
  /** Whether the counter began with this addition, and its time with it. */
  created: boolean;
}

/** Adds to bare text, as other programs keep it. */
export function addToText(current: Uint8Array | null, amount: bigint): Counted {
  const value = checked((current === null ? 0n : number(current)) + amount);
  return { kept: utf8(value.toString()), value, stamp: null, created: current === null };
}

/**
 * Adds to an entry. One with a lower stamp counts as absent; any other keeps its header.
 *
 * initial: the entry to begin with, whose payload is the amount.
 */
export function addToEntry(
  current: Uint8Array | null,
  amount: bigint,
  initial: Uint8Array,
): Counted {
  const stamp = stampOf(initial);
  if (current === null || stampOf(current) < stamp) {
    return { kept: initial, value: amount, stamp, created: true };
  }
  if (current[1] !== COUNTER) {
    throw notACounter();
  }
  const value = checked(number(current.subarray(HEADER)) + amount);
  const entry = concat([current.subarray(0, HEADER), utf8(value.toString())]);
  return { kept: entry, value, stamp: stampOf(current), created: false };
}

/** Whether it is what a counter can begin with: an entry whose payload is the amount. */
export function begins(entry: Uint8Array, amount: bigint): boolean {
  return (
    entry.byteLength > HEADER &&
    entry.byteLength <= HEADER + MAX_DIGITS &&
    entry[0] === MARK &&
    entry[1] === COUNTER &&
    latin1(entry.subarray(HEADER)) === amount.toString()
  );
}

function stampOf(entry: Uint8Array): bigint {
  if (entry.byteLength < HEADER || entry[0] !== MARK) {
    throw notACounter();
  }
  return new DataView(entry.buffer, entry.byteOffset).getBigUint64(STAMP);
}

function number(bytes: Uint8Array): bigint {
  const text = bytes.byteLength <= MAX_DIGITS ? latin1(bytes) : "";
  if (!/^(?:0|-?[1-9][0-9]*)$/.test(text)) {
    throw notACounter();
  }
  return BigInt(text);
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function checked(sum: bigint): bigint {
  if (BigInt.asIntN(64, sum) !== sum) {
    throw invalid("the counter would leave the range of 64 bit");
  }
  return sum;
}

function notACounter(): Failure {
  return new Failure("precondition_failed", "what is kept under this key is no counter");
}
