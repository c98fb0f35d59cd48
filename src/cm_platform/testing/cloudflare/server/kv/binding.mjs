// KV's face towards a Worker: what workerd's own KV client sends, answered from the store. So the
// Worker has the real `KVNamespace` with its real errors ("KV PUT failed: 429 Too Many Requests").

import { readBody } from "../body.mjs";
import { Refusal } from "../refusal.mjs";
import { INVALID } from "./codes.mjs";

/** Set by the Worker's configuration on each request: whose binding it is, and where. */
export const NAMESPACE_HEADER = "cm-local-namespace";
export const LOCATION_HEADER = "cm-local-location";

export class KvBinding {
  #store;
  #rules;
  #limits;

  /**
   * @param {import("./store.mjs").KvStore} store
   * @param {import("./rules.mjs").Rules} rules
   * @param {Record<string, number>} limits the table cloudflare.kv
   */
  constructor(store, rules, limits) {
    this.#store = store;
    this.#rules = rules;
    this.#limits = limits;
  }

  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   */
  async answer(request, response) {
    try {
      await this.#route(request, response);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // workerd puts the reason phrase into the error that the Worker sees.
      response.writeHead(error.status, latin1(error.message));
      response.end(error.message);
    }
  }

  async #route(request, response) {
    const at = {
      namespace: request.headers[NAMESPACE_HEADER],
      location: request.headers[LOCATION_HEADER],
    };
    const [path, search = ""] = split(request.url, "?");
    const query = new URLSearchParams(search);
    if (request.method === "POST" && path === "/bulk/get") {
      await this.#getMany(at, request, response);
    } else if (request.method === "GET" && path === "/") {
      this.#list(at, query, response);
    } else if (request.method === "GET") {
      this.#get(at, name(path, query), query, response);
    } else if (request.method === "PUT") {
      await this.#put(at, name(path, query), query, request, response);
    } else if (request.method === "DELETE") {
      this.#store.delete(at, name(path, query));
      response.end();
    } else {
      throw new Refusal(405, INVALID, "Method Not Allowed");
    }
  }

  #get(at, key, query, response) {
    const version = this.#store.get(at, key, this.#rules.cacheTtl(query.get("cache_ttl")));
    if (version === null) {
      response.writeHead(404, "Not Found");
      response.end();
      return;
    }
    const headers = { "content-type": "application/octet-stream" };
    if (version.expiration !== null) headers["cf-expiration"] = String(version.expiration);
    if (version.metadata !== null) headers["cf-kv-metadata"] = ascii(version.metadata);
    response.writeHead(200, headers);
    response.end(version.value);
  }

  async #getMany(at, request, response) {
    const body = await readBody(request, this.#limits.max_bulk_body);
    const { keys, type = "text", withMetadata = false, cacheTtl } = JSON.parse(body.toString());
    const most = this.#limits.max_bulk_get;
    if (keys.length > most) {
      throw new Refusal(400, INVALID, `You can request a maximum of ${most} keys`);
    }
    if (keys.length === 0) {
      throw new Refusal(400, INVALID, "You must request a minimum of 1 key");
    }
    if (type !== "text" && type !== "json") {
      throw new Refusal(400, INVALID, `"${type}" is not a valid type. Use "json" or "text"`);
    }
    const kept = this.#rules.cacheTtl(cacheTtl === undefined ? null : String(cacheTtl));
    const values = Object.create(null);
    let size = 0;
    for (const key of keys) {
      const version = this.#store.get(at, key, kept);
      size += version?.value.byteLength ?? 0;
      values[key] = version === null ? null : decoded(version, type, withMetadata);
    }
    if (size > this.#limits.max_bulk_get_size) {
      throw new Refusal(413, INVALID, "Total size of request exceeds the limit");
    }
    response.end(JSON.stringify(values));
  }

  async #put(at, key, query, request, response) {
    const most = this.#limits.max_value;
    const declared = Number(request.headers["content-length"] ?? 0);
    const value = await readBody(request, most, () => {
      const length = Math.max(declared, most + 1);
      return new Refusal(413, INVALID, `Value length of ${length} exceeds limit of ${most}.`);
    });
    this.#store.put(at, key, value, {
      expiration_ttl: query.get("expiration_ttl"),
      expiration: query.get("expiration"),
      metadata: utf8(request.headers["cf-kv-metadata"]),
    });
    response.end();
  }

  #list(at, query, response) {
    const { keys, cursor } = this.#store.list(at, {
      prefix: query.get("prefix") ?? "",
      cursor: query.get("cursor") || null,
      limit: this.#rules.page(query.get("key_count_limit"), 1),
    });
    const page = {
      keys: keys.map(({ name, expiration, metadata }) => ({
        name,
        ...(expiration === null ? {} : { expiration }),
        ...(metadata === null ? {} : { metadata }),
      })),
      list_complete: cursor === null,
      ...(cursor === null ? {} : { cursor }),
      cacheStatus: null,
    };
    response.end(JSON.stringify(page));
  }
}

function name(path, query) {
  const key = path.slice(1);
  if (query.get("urlencoded") !== "true") return key;
  try {
    return decodeURIComponent(key);
  } catch {
    throw new Refusal(400, INVALID, "Could not URL-decode key name");
  }
}

function decoded(version, type, withMetadata) {
  const text = Buffer.from(version.value).toString("utf8");
  let value = text;
  if (type === "json") {
    try {
      value = JSON.parse(text);
    } catch {
      throw new Refusal(
        400,
        INVALID,
        "At least one of the requested keys corresponds to a non-json value",
      );
    }
  }
  if (!withMetadata) return value;
  return { value, metadata: version.metadata === null ? null : JSON.parse(version.metadata) };
}

function split(text, mark) {
  const index = text.indexOf(mark);
  return index < 0 ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

// Header values travel as Latin-1 in Node.
function utf8(header) {
  return header === undefined ? null : Buffer.from(header, "latin1").toString("utf8");
}

function ascii(json) {
  return json.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function latin1(message) {
  return message.replace(/[^\x20-\x7e]/g, "?");
}
