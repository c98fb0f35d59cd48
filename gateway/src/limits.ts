/**
 * The gateway's own limits, and those of the products that it checks before it asks them.
 *
 * The products' limits are Cloudflare's documented ones (checked 2026-11-23).
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** Bytes of a batch, of the request and of the reply: one KV value of full size, and room. */
export const MAX_BODY = 26 * MIB;

export const MAX_OPERATIONS = 100;

/** What the operations of one batch may ask of KV and Durable Objects together: an invocation
 * of a Worker may make 1,000 such requests, and the gateway needs some itself. */
export const MAX_REQUESTS = 900;

export const KV = {
  /** Bytes of a physical key, as UTF-8. */
  maxKey: 512,
  maxValue: 25 * MIB,
  /** Bytes of the metadata, as JSON. */
  maxMetadata: 1024,
  /** Seconds. */
  minTtl: 60,
  minCacheTtl: 30,
  /** Names in one page of a list. */
  maxPage: 1000,
  /** Keys of one `kv.get_many`. */
  maxKeys: 100,
} as const;

export const VALUES = {
  /** Bytes of a physical key, as UTF-8; ours. */
  maxKey: 1024,
  /** A row holds 2 MB, and the record has a little beside the value. */
  maxValue: 2_000_000 - 1000,
  /** Seconds: 100 years. */
  maxTtl: 100 * 365 * 86_400,
  /** Characters of an idempotency token. */
  maxToken: 64,
} as const;
