// Workers KV as several locations see it: one central store, and what each location has not
// heard of yet.
//
// - A write is seen at once where it was made, and elsewhere after `staleness`. The documentation
//   promises no more than that. That a key did not exist is remembered as long.
// - Cold reads "stale", the default: also what a location reads for the first time is as old as
//   the promise allows. "fresh": a first read is current and is then kept for `staleness`, as
//   production mostly does; one key may then be new and the next one old.
// - Listings are as old as reads elsewhere, even where the write was made, and a page may have
//   fewer names than asked for: deleted and expired ones leave gaps.

import { Refusal } from "../refusal.mjs";
import { INVALID, NOT_FOUND, TOO_FREQUENT } from "./codes.mjs";

// Until then a listing has a gap where a key has ended.
const PURGED_AFTER = 3_600_000;

export class KvStore {
  #versions;
  #rules;
  #clock;
  #limits;
  #staleness;
  #coldReads;
  #remembered = new Map();
  #purged;

  /**
   * @param {import("./versions.mjs").Versions} versions
   * @param {import("./rules.mjs").Rules} rules
   * @param {import("../clock.mjs").Clock} clock
   * @param {Record<string, number>} limits the table cloudflare.kv
   * @param {{staleness: number, cold_reads: "stale" | "fresh"}} consistency staleness: seconds
   */
  constructor(versions, rules, clock, limits, { staleness, cold_reads }) {
    this.#versions = versions;
    this.#rules = rules;
    this.#clock = clock;
    this.#limits = limits;
    this.#staleness = staleness * 1000;
    this.#coldReads = cold_reads;
    this.#purged = clock.now();
  }

  /**
   * @param {{namespace: string, location: string}} at
   * @param {number | null} cacheTtl seconds for which the location keeps what it reads
   */
  get(at, key, cacheTtl = null) {
    this.#rules.checkKey(key);
    return this.#alive(this.#seen(at, key, cacheTtl));
  }

  /** Refuses with 404 what `get` answers with null. */
  demand(at, key) {
    const found = this.get(at, key);
    if (found === null) throw new Refusal(404, NOT_FOUND, "get: 'key not found'");
    return found;
  }

  /**
   * @param {Uint8Array} value
   * @param {{expiration_ttl?: string | number | null, expiration?: string | number | null,
   *   metadata?: string | null}} options metadata: JSON
   */
  put(at, key, value, options) {
    const { expiration_ttl, expiration, metadata } = options;
    const now = this.#clock.now();
    this.#rules.checkKey(key);
    this.#rules.checkValue(value.byteLength);
    const kept = {
      expiration: this.#rules.expiration(expiration_ttl, expiration, now),
      metadata: this.#rules.checkMetadata(metadata ?? null),
      value,
    };
    this.#write(at, key, kept, now);
  }

  delete(at, key) {
    this.#rules.checkKey(key);
    const gone = { expiration: null, metadata: null, value: null };
    this.#write(at, key, gone, this.#clock.now());
  }

  /**
   * One page of names.
   * @returns {{keys: {name: string, expiration: number | null, metadata: string | null}[],
   *   cursor: string | null}} cursor null: there is no more
   */
  list(at, { prefix, cursor, limit }) {
    this.#rules.checkPrefix(prefix);
    const after = cursor === null ? Buffer.alloc(0) : place(cursor, prefix);
    this.#purge();
    const written = this.#settled();
    const found = this.#versions.page(at.namespace, prefix, after, written, limit + 1);
    const more = found.length > limit;
    const page = found.slice(0, limit);
    return {
      keys: page
        .filter((version) => this.#alive(version) !== null)
        .map(({ name, expiration, metadata }) => ({
          name: Buffer.from(name).toString("utf8"),
          expiration,
          metadata,
        })),
      cursor: more ? cursorAfter(Buffer.from(page[page.length - 1].name), prefix) : null,
    };
  }

  /** Forget, once in a while, what nobody can see. */
  #purge() {
    const now = this.#clock.now();
    if (now - this.#purged < PURGED_AFTER) return;
    this.#purged = now;
    this.#versions.purge(this.#settled() - PURGED_AFTER);
    for (const memory of this.#remembered.values()) {
      for (const [key, { until }] of memory) {
        if (until <= now) memory.delete(key);
      }
    }
  }

  #settled() {
    return this.#clock.now() - this.#staleness;
  }

  #alive(version) {
    if (version === undefined || version === null || version.deleted === 1) return null;
    const { expiration } = version;
    return expiration !== null && expiration * 1000 <= this.#clock.now() ? null : version;
  }

  #seen(at, key, cacheTtl) {
    const now = this.#clock.now();
    const memory = this.#memory(at);
    const remembered = memory.get(key);
    if (remembered !== undefined && now < remembered.until) return remembered.version;
    const stale = this.#coldReads === "stale";
    const version = stale
      ? this.#versions.visible(at.namespace, key, at.location, this.#settled())
      : this.#versions.newest(at.namespace, key);
    const kept = cacheTtl === null ? (stale ? 0 : this.#staleness) : cacheTtl * 1000;
    if (kept > 0) memory.set(key, { version, until: now + kept });
    else memory.delete(key);
    return version;
  }

  #write(at, key, { expiration, metadata, value }, now) {
    const last = this.#versions.newest(at.namespace, key);
    const apart = 1000 / this.#limits.max_writes_per_key;
    if (last !== undefined && now - last.written_at < apart) {
      throw new Refusal(429, TOO_FREQUENT, "Too Many Requests");
    }
    const version = { location: at.location, written_at: now, expiration, metadata, value };
    this.#versions.add(at.namespace, key, version, this.#settled());
    const memory = this.#memory(at);
    memory.delete(key);
    if (this.#coldReads === "fresh") this.#seen(at, key, null);
  }

  /** What a location remembers of a namespace, by key. */
  #memory({ namespace, location }) {
    const where = `${location}/${namespace}`;
    let memory = this.#remembered.get(where);
    if (memory === undefined) this.#remembered.set(where, (memory = new Map()));
    return memory;
  }
}

// A cursor is opaque, and holds for the prefix that it was made for.
function cursorAfter(name, prefix) {
  return Buffer.from(JSON.stringify([name.toString("hex"), prefix])).toString("base64url");
}

function place(cursor, prefix) {
  try {
    const [name, made] = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
    if (made === prefix && /^([0-9a-f]{2})+$/.test(name)) return Buffer.from(name, "hex");
  } catch {
    // Refused below.
  }
  throw new Refusal(400, INVALID, "Invalid list cursor");
}
