/** Who asks, proven: the headers, the signature over everything, the nonce. */

import { collect, concat, fromBase64url } from "./bytes.ts";
import { canonical } from "./canonical.ts";
import type { Env } from "./env.ts";
import { Refusal, unauthenticated } from "./errors.ts";
import { KEY_ID, keyRing } from "./keys.ts";
import { MAX_BODY } from "./limits.ts";
import { remember, SKEW } from "./nonces.ts";

/** A request that carries a valid signature and was not seen before. */
export interface Authentic {
  method: string;
  path: string;
  body: Uint8Array<ArrayBuffer>;
  /** The tenant's; "" where the request names none. */
  partition: string;
}

const FORMS = {
  "cm-key-id": KEY_ID,
  "cm-timestamp": /^[1-9][0-9]{0,14}$/,
  "cm-nonce": /^[A-Za-z0-9_-]{22}$/,
  "cm-signature": /^[A-Za-z0-9_-]{43}$/,
} as const;

/** Throws the one refusal for whatever is wrong. */
export async function authenticate(request: Request, env: Env): Promise<Authentic> {
  const ring = await keyRing(env.GATEWAY_KEYS);
  const keyId = header(request, "cm-key-id");
  const timestamp = header(request, "cm-timestamp");
  const nonce = header(request, "cm-nonce");
  const signature = fromBase64url(header(request, "cm-signature"));
  const partition = decodedPartition(request.headers.get("cm-partition"));
  checkTime(timestamp);
  const { method } = request;
  const { path, query } = target(request.url);
  const body = await read(request);
  // Again: a body may take longer to come than its nonce is remembered.
  checkTime(timestamp);
  const parts = { keyId, method, path, query, body, timestamp, nonce, partition };
  if (!(await ring.verify(keyId, signature, await canonical(parts)))) {
    throw unauthenticated();
  }
  // Only now: a stranger must not be able to use up a nonce, or our storage.
  if (!(await isNew(env, nonce))) {
    throw unauthenticated();
  }
  return { method, path, body, partition };
}

function header(request: Request, name: keyof typeof FORMS): string {
  const value = request.headers.get(name);
  if (value === null || !FORMS[name].test(value)) {
    throw unauthenticated();
  }
  return value;
}

function checkTime(timestamp: string): void {
  if (Math.abs(Date.now() - Number(timestamp)) > SKEW) {
    throw unauthenticated();
  }
}

/** One spelling for each partition: what encodeURIComponent makes of it. */
function decodedPartition(encoded: string | null): string {
  if (encoded === null) {
    throw unauthenticated();
  }
  try {
    const partition = decodeURIComponent(encoded);
    if (encodeURIComponent(partition) === encoded && !partition.includes("\0")) {
      return partition;
    }
  } catch {
    // Not percent-encoded UTF-8.
  }
  throw unauthenticated();
}

async function isNew(env: Env, nonce: string): Promise<boolean> {
  try {
    return await remember(env, nonce);
  } catch (error) {
    console.error("a nonce could not be kept:", error);
    throw new Refusal(
      503,
      "unavailable",
      "the gateway cannot tell a replay now: sign and send again",
    );
  }
}

/** Path and query as they were sent; URLSearchParams would decode them. */
function target(url: string): { path: string; query: string } {
  const { pathname, search } = new URL(url);
  return { path: pathname, query: search.slice(1) };
}

async function read(request: Request): Promise<Uint8Array<ArrayBuffer>> {
  if (request.body === null) {
    return new Uint8Array();
  }
  let room = MAX_BODY;
  const chunks = await collect(request.body, (size) => {
    room -= size;
    if (room < 0) {
      throw new Refusal(
        413,
        "invalid_argument",
        `a request must not be longer than ${MAX_BODY} bytes`,
      );
    }
  });
  return concat(chunks);
}
