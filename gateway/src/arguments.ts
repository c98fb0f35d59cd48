/** The fields of one operation, each checked as it is read. */

import { utf8 } from "./bytes.ts";
import { invalid } from "./errors.ts";
import { slice } from "./frame.ts";

export class Arguments {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #values: Uint8Array;

  constructor(fields: Readonly<Record<string, unknown>>, values: Uint8Array) {
    this.#fields = fields;
    this.#values = values;
  }

  /** A field as it stands, for what is stored as it stands; undefined without one. */
  any(name: string): unknown {
    return this.#get(name) ?? undefined;
  }

  text(name: string): string {
    const value = this.optionalText(name);
    if (value === undefined) {
      throw invalid(`${name} is missing`);
    }
    return value;
  }

  optionalText(name: string): string | undefined {
    const value = this.any(name);
    if (value !== undefined && (typeof value !== "string" || !value.isWellFormed())) {
      // Half a surrogate pair has no UTF-8, and would become the same key as another half.
      throw invalid(`${name} must be text`);
    }
    return value;
  }

  /** One of a few words. */
  choice<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    const value = this.any(name);
    const word = words.find((known) => known === value);
    if (value !== undefined && word === undefined) {
      throw invalid(`${name} must be one of ${words.join(", ")}`);
    }
    return word;
  }

  /** True or false; false where it is left out. */
  flag(name: string): boolean {
    const value = this.any(name) ?? false;
    if (typeof value !== "boolean") {
      throw invalid(`${name} must be true or false`);
    }
    return value;
  }

  /** A whole number within bounds. */
  integer(name: string, least: number, most: number): number | undefined {
    const value = this.any(name);
    if (value === undefined) {
      return undefined;
    }
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
      throw invalid(`${name} must be a whole number from ${least} to ${most}`);
    }
    return value as number;
  }

  /** Seconds, more than 0. */
  seconds(name: string, most: number): number | undefined {
    const value = this.any(name);
    if (value === undefined) {
      return undefined;
    }
    if (typeof value !== "number" || !(value > 0 && value <= most)) {
      throw invalid(`${name} must be more than 0 and at most ${most} seconds`);
    }
    return value;
  }

  /** A whole number of 64 bit, in decimal: JSON's numbers end at 53. */
  int64(name: string): bigint {
    return wholeNumber(name, this.text(name));
  }

  bytes(name: string, most: number): Uint8Array {
    const value = this.bytesOrNull(name, most);
    if (value === null) {
      throw invalid(`${name} is missing`);
    }
    return value;
  }

  bytesOrNull(name: string, most: number): Uint8Array | null {
    const span = this.any(name);
    if (span === undefined) {
      return null;
    }
    const value = slice(this.#values, span);
    if (value === undefined) {
      throw invalid(`${name} must name bytes of this batch`);
    }
    if (value.byteLength > most) {
      throw invalid(`${name} must not be longer than ${most} bytes`);
    }
    return value;
  }

  /** The physical key: the partition, then the operation's key. most: bytes of both together. */
  key(name: string, partition: string, most: number): string {
    return physical(this.text(name), partition, most);
  }

  keys(name: string, partition: string, most: number, limit: number): string[] {
    const keys = this.any(name);
    if (!Array.isArray(keys) || keys.length === 0 || keys.length > limit) {
      throw invalid(`${name} must be a list of 1 to ${limit} keys`);
    }
    return keys.map((key: unknown) => {
      if (typeof key !== "string" || !key.isWellFormed()) {
        throw invalid(`${name} must be a list of text`);
      }
      return physical(key, partition, most);
    });
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined;
  }
}

function physical(key: string, partition: string, most: number): string {
  if (key === "") {
    throw invalid("a key must not be empty");
  }
  const whole = partition + key;
  if (utf8(whole).byteLength > most) {
    throw invalid(`a key and its partition must not be longer than ${most} bytes together`);
  }
  return whole;
}

function wholeNumber(name: string, text: string): bigint {
  if (/^-?[0-9]{1,20}$/.test(text)) {
    const value = BigInt(text);
    if (BigInt.asIntN(64, value) === value) {
      return value;
    }
  }
  throw invalid(`${name} must be a whole number of 64 bit, as text`);
}
