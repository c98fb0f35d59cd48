// What KV refuses before it stores or reads anything. Every bound comes from limits.toml.

import { Refusal } from "../refusal.mjs";
import { INVALID, KEY_TOO_LONG, TOO_LARGE } from "./codes.mjs";

export class Rules {
  #limits;

  /** @param {Record<string, number>} limits the table cloudflare.kv */
  constructor(limits) {
    this.#limits = limits;
  }

  /** @param {string} key */
  checkKey(key) {
    if (key === "") throw new Refusal(400, INVALID, "Key names must not be empty");
    if (key === "." || key === "..") {
      throw new Refusal(400, INVALID, `Illegal key name "${key}". Please use a different name.`);
    }
    this.checkPrefix(key);
  }

  /** @param {string} text a key, or the beginning of one */
  checkPrefix(text) {
    const length = Buffer.byteLength(text);
    if (length > this.#limits.max_key) {
      throw new Refusal(
        414,
        KEY_TOO_LONG,
        `UTF-8 encoded length of ${length} exceeds key length limit of ${this.#limits.max_key}.`,
      );
    }
  }

  /** @param {number} length bytes */
  checkValue(length) {
    if (length > this.#limits.max_value) {
      const bound = this.#limits.max_value;
      throw new Refusal(413, TOO_LARGE, `Value length of ${length} exceeds limit of ${bound}.`);
    }
  }

  /**
   * @param {string | null} json the metadata as it was sent
   * @returns {string | null} the same, checked
   */
  checkMetadata(json) {
    if (json === null) return null;
    const length = Buffer.byteLength(json);
    if (length > this.#limits.max_metadata) {
      const bound = this.#limits.max_metadata;
      throw new Refusal(413, TOO_LARGE, `Metadata length of ${length} exceeds limit of ${bound}.`);
    }
    try {
      return JSON.stringify(JSON.parse(json));
    } catch {
      throw new Refusal(400, INVALID, "metadata must be valid JSON");
    }
  }

  /**
   * When a value ends, from either way to say it; a TTL goes before a time.
   * @param {string | number | null | undefined} ttl seconds
   * @param {string | number | null | undefined} expiration seconds since the Unix epoch
   * @param {number} now milliseconds
   * @returns {number | null} seconds since the Unix epoch
   */
  expiration(ttl, expiration, now) {
    const seconds = Math.floor(now / 1000);
    const least = this.#limits.min_ttl;
    if (ttl !== null && ttl !== undefined) {
      const given = whole(ttl, "expiration_ttl");
      if (given < least) {
        throw new Refusal(
          400,
          INVALID,
          `Invalid expiration_ttl of ${ttl}. Expiration TTL must be at least ${least}.`,
        );
      }
      return kept(seconds + given);
    }
    if (expiration === null || expiration === undefined) return null;
    const given = whole(expiration, "expiration");
    if (given < seconds + least) {
      throw new Refusal(
        400,
        INVALID,
        `Invalid expiration of ${expiration}. ` +
          `Expiration times must be at least ${least} seconds in the future.`,
      );
    }
    return given;
  }

  /** @param {string | null} text seconds for which a location may keep what it reads */
  cacheTtl(text) {
    if (text === null) return null;
    const seconds = Number(text);
    if (!(seconds >= this.#limits.min_cache_ttl)) {
      throw new Refusal(
        400,
        INVALID,
        `Invalid cache_ttl of ${text}. ` +
          `Cache TTL must be at least ${this.#limits.min_cache_ttl}.`,
      );
    }
    return seconds;
  }

  /**
   * @param {string | null} text keys on a page
   * @param {number} least what the face demands at least
   */
  page(text, least) {
    if (text === null) return this.#limits.max_list;
    const limit = Number(text);
    if (!Number.isInteger(limit) || limit < least || limit > this.#limits.max_list) {
      throw new Refusal(
        400,
        INVALID,
        `Invalid limit of ${text}. ` +
          `Please specify an integer from ${least} to ${this.#limits.max_list}.`,
      );
    }
    return limit;
  }
}

/** A time that comes back as it is: the store would keep a later one, and never read it again. */
function kept(time) {
  if (Number.isSafeInteger(time)) return time;
  throw new Refusal(400, INVALID, "Invalid expiration_ttl: it ends beyond what can be counted.");
}

/** A whole number, or a refusal that names the parameter. */
function whole(value, name) {
  const number = typeof value === "number" ? value : /^\d+$/.test(value) ? Number(value) : NaN;
  if (!Number.isSafeInteger(number) || number <= 0) {
    throw new Refusal(
      400,
      INVALID,
      `Invalid ${name} of ${value}. Please specify integer greater than 0.`,
    );
  }
  return number;
}
