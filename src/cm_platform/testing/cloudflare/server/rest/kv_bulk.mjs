// KV's three bulk calls over REST.

import { INVALID, TOO_LARGE } from "../kv/codes.mjs";
import { Refusal } from "../refusal.mjs";
import { json, jsonArray } from "./json_body.mjs";

/**
 * @param {(method: string, path: string, answer: Function) => import("./router.mjs").Route} within
 *   a route of one namespace
 * @param {import("./kv.mjs").World} world
 * @returns {import("./router.mjs").Route[]}
 */
export function bulkRoutes(within, { store, rules, limits, clock }) {
  const bounds = limits.kv;

  return [
    within("PUT", "/bulk", bulkPut),
    within("POST", "/bulk/get", bulkGet),
    within("POST", "/bulk/delete", bulkDelete),
  ];

  async function bulkPut({ request }, at) {
    const pairs = await jsonArray(request, bounds.max_bulk_put, bounds.max_bulk_body);
    const writes = pairs.map((pair) => {
      const { key, value, base64 = false, expiration, expiration_ttl, metadata } = pair ?? {};
      if (typeof key !== "string" || typeof value !== "string") {
        throw new Refusal(400, INVALID, "each pair needs a key and a value, both strings");
      }
      const write = {
        key,
        value: Buffer.from(value, base64 ? "base64" : "utf8"),
        options: {
          expiration,
          expiration_ttl,
          metadata: metadata === undefined ? null : JSON.stringify(metadata),
        },
      };
      // Before the first is written: one bad pair refuses them all.
      rules.checkKey(key);
      rules.checkValue(write.value.byteLength);
      rules.checkMetadata(write.options.metadata);
      rules.expiration(expiration_ttl, expiration, clock.now());
      return write;
    });
    return each(writes, ({ key, value, options }) => store.put(at, key, value, options));
  }

  async function bulkDelete({ request }, at) {
    const keys = await jsonArray(request, bounds.max_bulk_delete, bounds.max_bulk_body);
    for (const key of keys) {
      if (typeof key !== "string") throw new Refusal(400, INVALID, "keys are strings");
      rules.checkKey(key);
    }
    return each(
      keys.map((key) => ({ key })),
      ({ key }) => store.delete(at, key),
    );
  }

  async function bulkGet({ request }, at) {
    const body = await json(request, bounds.max_bulk_body);
    const { keys, type = "text", withMetadata = false } = body ?? {};
    if (!Array.isArray(keys) || keys.length === 0 || keys.length > bounds.max_bulk_get) {
      throw new Refusal(400, INVALID, `give 1 to ${bounds.max_bulk_get} keys`);
    }
    if (type !== "text" && type !== "json") {
      throw new Refusal(400, INVALID, `"${type}" is not a valid type. Use "json" or "text"`);
    }
    // Without a prototype: else a key "__proto__" would be that, and not in the answer.
    const values = Object.create(null);
    let size = 0;
    for (const key of keys) {
      if (typeof key !== "string") throw new Refusal(400, INVALID, "keys are strings");
      const version = store.get(at, key);
      size += version?.value.byteLength ?? 0;
      if (size > bounds.max_bulk_get_size) {
        throw new Refusal(413, TOO_LARGE, "Total size of request exceeds the limit");
      }
      values[key] = version === null ? null : shown(version, type, withMetadata);
    }
    return { values };
  }
}

/** One outcome for all: how many, and which keys the caller should try again. */
function each(writes, write) {
  const failed = [];
  for (const one of writes) {
    try {
      write(one);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      failed.push(one.key);
    }
  }
  return { successful_key_count: writes.length - failed.length, unsuccessful_keys: failed };
}

function shown(version, type, withMetadata) {
  const text = Buffer.from(version.value).toString("utf8");
  let value = text;
  if (type === "json") {
    try {
      value = JSON.parse(text);
    } catch {
      throw new Refusal(400, INVALID, "a requested key has a value that is not JSON");
    }
  }
  if (!withMetadata) return value;
  const { expiration } = version;
  return {
    value,
    metadata: parsed(version.metadata),
    ...(expiration === null ? {} : { expiration }),
  };
}

function parsed(metadata) {
  return metadata === null ? null : JSON.parse(metadata);
}
