/** The keys that may sign, from the secret GATEWAY_KEYS: `{"<key id>": "<secret>"}`. */

import { utf8 } from "./bytes.ts";

export const KEY_ID = /^[A-Za-z0-9._-]{1,64}$/;

const MIN_SECRET = 32;
const HMAC = { name: "HMAC", hash: "SHA-256" } as const;

/** Several keys are valid at once, so that they rotate without a gap. */
export class KeyRing {
  readonly #keys: ReadonlyMap<string, CryptoKey>;
  readonly #stranger: CryptoKey;

  private constructor(keys: ReadonlyMap<string, CryptoKey>, stranger: CryptoKey) {
    this.#keys = keys;
    this.#stranger = stranger;
  }

  /** Throws for a secret that is missing or not of the form above; the message names no secret. */
  static async read(secret: unknown): Promise<KeyRing> {
    const keys = new Map<string, CryptoKey>();
    for (const [id, value] of parsed(secret)) {
      keys.set(id, await imported(utf8(value)));
    }
    return new KeyRing(keys, await imported(crypto.getRandomValues(new Uint8Array(32))));
  }

  /** In constant time. An unknown id costs what a known one does: a key nobody has stands in. */
  async verify(id: string, signature: BufferSource, signed: BufferSource): Promise<boolean> {
    const key = this.#keys.get(id);
    const matches = await crypto.subtle.verify(HMAC, key ?? this.#stranger, signature, signed);
    return matches && key !== undefined;
  }
}

let current: { secret: unknown; ring: KeyRing } | undefined;

/** The ring of a secret, which an isolate reads once. */
export async function keyRing(secret: unknown): Promise<KeyRing> {
  // Kept is the ring, not its promise: one request must not wait for another's.
  if (current === undefined || current.secret !== secret) {
    current = { secret, ring: await KeyRing.read(secret) };
  }
  return current.ring;
}

function parsed(secret: unknown): [string, string][] {
  const keys: unknown = typeof secret === "string" ? parsedJson(secret) : undefined;
  if (typeof keys !== "object" || keys === null || Array.isArray(keys)) {
    throw new Error("GATEWAY_KEYS is not set, or is not a JSON object of key ids and secrets");
  }
  const entries = Object.entries(keys as Record<string, unknown>);
  if (entries.length === 0) {
    throw new Error("GATEWAY_KEYS has no key");
  }
  return entries.map(([id, value]) => {
    if (!KEY_ID.test(id)) {
      throw new Error(
        "each key id of GATEWAY_KEYS must have 1 to 64 letters, digits, '.', '_', '-'",
      );
    }
    if (typeof value !== "string" || value.length < MIN_SECRET) {
      throw new Error(`each secret of GATEWAY_KEYS must have ${MIN_SECRET} characters or more`);
    }
    return [id, value];
  });
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function imported(secret: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", secret, HMAC, false, ["verify"]);
}
