import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Gateway } from "./gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

/** A nonce that the object `shard` keeps. */
const nonce = (shard: string, text: string) => shard + text.padStart(21, "0");

describe("nonces", () => {
  it("lie in the object of their first character", async () => {
    for (const shard of ["A", "a", "-"]) {
      assert.equal((await gateway.request({ nonce: nonce(shard, "1") })).status, 200);
      assert.equal((await gateway.inspect("NONCES", shard)).nonces, 1, shard);
    }
  });

  it("are kept for longer than the two minutes in which they are acceptable", async () => {
    await gateway.request({ nonce: nonce("k", "1") });
    assert.equal((await gateway.inspect("NONCES", "k", "?age=150000")).nonces, 1);
    assert.equal((await gateway.request({ nonce: nonce("k", "1") })).status, 401);
  });

  it("are forgotten after that, and an object without any sleeps", async () => {
    await gateway.request({ nonce: nonce("f", "1") });
    assert.ok((await gateway.inspect("NONCES", "f")).alarm > Date.now());
    const aged = await gateway.inspect("NONCES", "f", "?age=181000");
    assert.deepEqual(aged, { nonces: 0, alarm: null });
  });

  it("of refused requests are not kept", async () => {
    await gateway.request({ nonce: nonce("r", "1"), secret: "x".repeat(40) });
    assert.equal((await gateway.inspect("NONCES", "r")).nonces, 0);
  });
});
