// KV over REST: values, metadata and listings; namespaces and bulk calls have files of their own.

import { readBody } from "../body.mjs";
import { INVALID, NO_NAMESPACE } from "../kv/codes.mjs";
import { Refusal } from "../refusal.mjs";
import { Page, Raw } from "./envelope.mjs";
import { bulkRoutes } from "./kv_bulk.mjs";
import { namespaceRoutes } from "./kv_namespaces.mjs";
import { parseMultipart } from "./multipart.mjs";

const ROOT = "/accounts/:account/storage/kv/namespaces";
const MULTIPART_OVERHEAD = 65_536;

/** REST is a place of its own: what it writes is seen by Workers later, and the other way round. */
export const LOCATION = "rest";

/**
 * @typedef {object} World
 * @property {import("../kv/versions.mjs").Versions} versions
 * @property {import("../kv/store.mjs").KvStore} store
 * @property {import("../kv/rules.mjs").Rules} rules
 * @property {Record<string, Record<string, number>>} limits tables of limits.toml, by product
 * @property {import("../clock.mjs").Clock} clock
 */

/**
 * @param {World} world
 * @returns {import("./router.mjs").Route[]}
 */
export function kvRoutes(world) {
  const { versions, store, rules, limits } = world;
  const bounds = limits.kv;
  const one = `${ROOT}/:namespace`;

  /** A route of one namespace; its answer gets the place in the store besides. */
  const within = (method, path, answer) => ({
    method,
    path: `${one}${path}`,
    answer: (call) => {
      const { namespace } = call.parameters;
      if (versions.namespace(namespace) === undefined) {
        throw new Refusal(404, NO_NAMESPACE, "namespace not found");
      }
      return answer(call, { namespace, location: LOCATION });
    },
  });

  return [
    ...namespaceRoutes(ROOT, within, versions, bounds),
    within("GET", "/keys", listKeys),
    within("GET", "/values/:key", getValue),
    within("PUT", "/values/:key", putValue),
    within("DELETE", "/values/:key", ({ parameters }, at) => {
      store.delete(at, parameters.key);
      return {};
    }),
    within("GET", "/metadata/:key", ({ parameters }, at) =>
      parsed(store.demand(at, parameters.key).metadata),
    ),
    ...bulkRoutes(within, world),
  ];

  function listKeys({ query }, at) {
    const { keys, cursor } = store.list(at, {
      prefix: query.get("prefix") ?? "",
      cursor: query.get("cursor") || null,
      limit: rules.page(query.get("limit"), bounds.min_rest_list),
    });
    const named = keys.map(({ name, expiration, metadata }) => ({
      name,
      ...(expiration === null ? {} : { expiration }),
      ...(metadata === null ? {} : { metadata: parsed(metadata) }),
    }));
    return new Page(named, { count: named.length, cursor: cursor ?? "" });
  }

  function getValue({ parameters }, at) {
    const { value, expiration } = store.demand(at, parameters.key);
    return new Raw(value, {
      "content-type": "application/octet-stream",
      ...(expiration === null ? {} : { expiration: String(expiration) }),
    });
  }

  async function putValue({ parameters, query, request }, at) {
    const type = request.headers["content-type"] ?? "";
    const most = bounds.max_value + MULTIPART_OVERHEAD;
    const body = await readBody(request, most);
    let value = body;
    let metadata = null;
    if (type.toLowerCase().startsWith("multipart/form-data")) {
      const parts = parseMultipart(body, type);
      if (!parts?.has("value")) throw new Refusal(400, INVALID, "missing multipart part 'value'");
      value = parts.get("value");
      metadata = parts.get("metadata")?.toString("utf8") ?? null;
    }
    store.put(at, parameters.key, value, {
      expiration_ttl: query.get("expiration_ttl"),
      expiration: query.get("expiration"),
      metadata,
    });
    return {};
  }
}

function parsed(metadata) {
  return metadata === null ? null : JSON.parse(metadata);
}
