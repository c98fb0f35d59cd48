// What workerd does here never, and Cloudflare may: errors of the products, and a namespace that
// answers what it was not asked for. The products' files run in Node, against doubles.

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Arguments } from "../src/arguments.ts";
import { durableObjects } from "../src/durable_objects.ts";
import type { Env } from "../src/env.ts";
import { Failure } from "../src/errors.ts";
import { kv } from "../src/kv.ts";
import { Reply } from "../src/reply.ts";

function told(failure: Failure | undefined) {
  return failure && [failure.code, failure.retryAfter, failure.notSent];
}

describe("an error of KV", () => {
  const ERRORS: Record<string, unknown> = {
    "KV PUT failed: 429 Too Many Requests": ["rate_limited", 1, true],
    "KV GET failed: 400 Invalid cache_ttl of 1.": ["invalid_argument", undefined, undefined],
    "KV PUT failed: 413 Value length of 1 exceeds limit of 0.": [
      "invalid_argument",
      undefined,
      undefined,
    ],
    "KV DELETE failed: 503 Service Unavailable": ["unavailable", undefined, undefined],
    "something else about the key k": undefined,
  };
  for (const [message, expected] of Object.entries(ERRORS)) {
    it(`is told from its message: ${message}`, () => {
      const failure = kv.translate(new Error(message));
      assert.deepEqual(told(failure), expected);
      assert.ok(!failure?.message.includes("k k"));
    });
  }

  it("is a connection that was lost, if the runtime says so", () => {
    const error = Object.assign(new Error("Network connection lost."), { retryable: true });
    assert.equal(kv.translate(error)?.code, "unavailable");
  });
});

describe("an error of a Durable Object", () => {
  it("is told from the runtime's properties", () => {
    const failure = (properties: object) =>
      told(durableObjects.translate(Object.assign(new Error("k"), properties)));
    assert.deepEqual(failure({ overloaded: true, retryable: true }), ["rate_limited", 1, true]);
    assert.deepEqual(failure({ retryable: true }), ["unavailable", undefined, undefined]);
    assert.deepEqual(failure({ durableObjectReset: true }), ["unavailable", undefined, undefined]);
    assert.equal(failure({ remote: true }), undefined);
  });
});

describe("a namespace that lists a key of another partition", () => {
  it("is an internal error, and the key is not passed on", async () => {
    const namespace = {
      [Symbol.toStringTag]: "KvNamespace",
      list: async () => ({ keys: [{ name: "other/secret" }], list_complete: true }),
    };
    const list = kv.operations.get("kv.list")!;
    const env = { KV: namespace } as unknown as Env;
    const call = list(new Arguments({ op: "kv.list" }, new Uint8Array()), {
      env,
      binding: "KV",
      partition: "mine/",
    });
    await assert.rejects(call.run(new Reply().share()), (error) => {
      assert.ok(error instanceof Failure);
      assert.equal(error.code, "internal");
      assert.ok(!error.message.includes("secret"));
      return true;
    });
  });
});
