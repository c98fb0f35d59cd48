/** Workers KV: eventually consistent, cached where it is read, one write a second per key. */

import type { Arguments } from "./arguments.ts";
import { utf8 } from "./bytes.ts";
import { kvNamespace } from "./env.ts";
import { Failure, invalid, isLost } from "./errors.ts";
import { KV as LIMITS } from "./limits.ts";
import type { Call, Operation, Place, Product } from "./operation.ts";
import type { Share } from "./reply.ts";

export const kv: Product = {
  binding: "KV",
  operations: new Map<string, Operation>([
    ["kv.get", get],
    ["kv.get_many", getMany],
    ["kv.put", put],
    ["kv.delete", remove],
    ["kv.list", list],
  ]),
  translate,
};

function get(args: Arguments, place: Place): Call {
  const namespace = kvNamespace(place.env, place.binding);
  const key = args.key("key", place.partition, LIMITS.maxKey);
  const options = readOptions(args);
  return {
    keys: [key],
    requests: 1,
    async run(share) {
      const { chunks, metadata } = await read(namespace, key, options, share);
      return { value: chunks && share.add(chunks), metadata };
    },
  };
}

/** KV's own bulk read knows text and JSON only; bytes are read one by one. */
function getMany(args: Arguments, place: Place): Call {
  const namespace = kvNamespace(place.env, place.binding);
  const keys = args.keys("keys", place.partition, LIMITS.maxKey, LIMITS.maxKeys);
  const options = readOptions(args);
  return {
    keys,
    requests: keys.length,
    async run(share) {
      const found = await Promise.all(keys.map((key) => read(namespace, key, options, share)));
      // Not one by one as they come: of a read that fails nothing may stand in the reply.
      return { values: found.map(({ chunks }) => chunks && share.add(chunks)) };
    },
  };
}

function put(args: Arguments, place: Place): Call {
  const namespace = kvNamespace(place.env, place.binding);
  const key = args.key("key", place.partition, LIMITS.maxKey);
  const value = args.bytes("value", LIMITS.maxValue);
  const ttl = args.integer("ttl", LIMITS.minTtl, Number.MAX_SAFE_INTEGER);
  const metadata = args.any("metadata");
  if (metadata !== undefined && utf8(JSON.stringify(metadata)).byteLength > LIMITS.maxMetadata) {
    throw invalid(`metadata must not be longer than ${LIMITS.maxMetadata} bytes as JSON`);
  }
  const options: KVNamespacePutOptions = {
    ...(ttl === undefined ? {} : { expirationTtl: ttl }),
    ...(metadata === undefined ? {} : { metadata }),
  };
  return {
    keys: [key],
    requests: 1,
    async run() {
      await namespace.put(key, value, options);
      return {};
    },
  };
}

/** KV does not tell whether there was anything to delete. */
function remove(args: Arguments, place: Place): Call {
  const namespace = kvNamespace(place.env, place.binding);
  const key = args.key("key", place.partition, LIMITS.maxKey);
  return {
    keys: [key],
    requests: 1,
    async run() {
      await namespace.delete(key);
      return {};
    },
  };
}

function list(args: Arguments, place: Place): Call {
  const namespace = kvNamespace(place.env, place.binding);
  const prefix = place.partition + (args.optionalText("prefix") ?? "");
  const limit = args.integer("limit", 1, LIMITS.maxPage) ?? LIMITS.maxPage;
  const cursor = args.optionalText("cursor") ?? null;
  return {
    keys: [],
    requests: 1,
    async run(share) {
      const page = await namespace.list({ prefix, limit, cursor });
      const keys = page.keys.map(({ name, expiration, metadata }) => ({
        key: relative(name, prefix, place.partition),
        expiration: expiration ?? null,
        metadata: metadata ?? null,
      }));
      share.take(jsonSize(keys));
      return { keys, cursor: page.list_complete ? null : page.cursor };
    },
  };
}

/** What lies outside the prefix may be another tenant's; it is never passed on. */
function relative(name: string, prefix: string, partition: string): string {
  if (!name.startsWith(prefix)) {
    throw new Failure("internal", "the namespace listed a key outside of the prefix");
  }
  return name.slice(partition.length);
}

interface Found {
  /** Of the value; null: there is none. */
  chunks: Uint8Array[] | null;
  metadata: unknown;
}

async function read(
  namespace: KVNamespace,
  key: string,
  options: KVNamespaceGetOptions<"stream">,
  share: Share,
): Promise<Found> {
  const { value, metadata } = await namespace.getWithMetadata(key, options);
  if (value === null) {
    return { chunks: null, metadata: null };
  }
  const chunks = await share.read(value);
  share.take(jsonSize(metadata));
  return { chunks, metadata };
}

/** A stream, so that values that find no room in the reply are never in memory. */
function readOptions(args: Arguments): KVNamespaceGetOptions<"stream"> {
  const cacheTtl = args.integer("cache_ttl", LIMITS.minCacheTtl, Number.MAX_SAFE_INTEGER);
  return cacheTtl === undefined ? { type: "stream" } : { type: "stream", cacheTtl };
}

function jsonSize(value: unknown): number {
  return utf8(JSON.stringify(value)).byteLength;
}

/** KV's errors have their status in the message: "KV PUT failed: 429 Too Many Requests". */
function translate(error: unknown): Failure | undefined {
  const message = error instanceof Error ? error.message : "";
  const status = /^KV [A-Z_]+ failed: ([0-9]{3})\b/.exec(message)?.[1];
  switch (status) {
    case undefined:
      return isLost(error) ? new Failure("unavailable", "KV could not be reached") : undefined;
    case "400":
    case "413":
    case "414":
      return invalid(`KV refused the operation with status ${status}`);
    case "429":
      return new Failure("rate_limited", "KV asks to slow down: a key takes one write a second", {
        retryAfter: 1,
        notSent: true,
      });
    default:
      return new Failure("unavailable", `KV answered with status ${status}`);
  }
}
