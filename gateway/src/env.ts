/** What the Worker is bound to, and which of it the operations may name. */

import { Failure, shown } from "./errors.ts";
import type { Nonces } from "./nonces.ts";
import type { Values } from "./values.ts";

export interface Env {
  readonly GATEWAY_KEYS?: string;
  readonly NONCES: DurableObjectNamespace<Nonces>;
  /** The products' bindings, under the names that the user gave them. */
  readonly [name: string]: unknown;
}

export type Kind = "kv" | "durable_object";

/** The gateway's own; no operation reaches it. */
const RESERVED = "NONCES";

/** By what the runtime calls them: of a service binding every name is a method. */
const KINDS: ReadonlyMap<string, Kind> = new Map([
  ["[object KvNamespace]", "kv"],
  ["[object DurableObjectNamespace]", "durable_object"],
]);

/** The bindings that operations may name, with their kind. */
export function bindings(env: Env): Record<string, Kind> {
  const found: Record<string, Kind> = {};
  for (const name of Object.keys(env)) {
    const kind = kindOf(env, name);
    if (kind !== undefined) {
      found[name] = kind;
    }
  }
  return found;
}

export function kvNamespace(env: Env, name: string): KVNamespace {
  if (kindOf(env, name) !== "kv") {
    throw absent("KV namespace", name);
  }
  return env[name] as KVNamespace;
}

export function valuesNamespace(env: Env, name: string): DurableObjectNamespace<Values> {
  if (kindOf(env, name) !== "durable_object") {
    throw absent("Durable Object", name);
  }
  return env[name] as DurableObjectNamespace<Values>;
}

function kindOf(env: Env, name: string): Kind | undefined {
  return name === RESERVED ? undefined : KINDS.get(Object.prototype.toString.call(env[name]));
}

function absent(what: string, name: string): Failure {
  return new Failure(
    "unsupported",
    `this gateway has no ${what} bound as ${shown(name)}: see its wrangler.jsonc`,
  );
}
