import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { Gateway, type Json, text } from "./gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

const HEALTH = { method: "GET", path: "/v1/health", body: new Uint8Array() };

async function shippedVersion(): Promise<string> {
  const file = join(import.meta.dirname, "../package.json");
  return JSON.parse(await readFile(file, "utf-8")).version;
}

describe("health", () => {
  it("tells version, protocol, time and the bindings that operations may name", async () => {
    const earliest = Date.now();
    const { status, body } = await gateway.request({ ...HEALTH, partition: "" });
    const { time, ...told }: Json = JSON.parse(text(body));
    assert.equal(status, 200);
    assert.deepEqual(told, {
      version: await shippedVersion(),
      protocol: 1,
      bindings: { KV: "kv", OTHER_KV: "kv", VALUES: "durable_object" },
    });
    assert.ok(time >= earliest - 1000 && time <= Date.now() + 1000);
  });

  it("is signed as every request is", async () => {
    const unsigned = await gateway.request(HEALTH, (sent) => (sent.headers = {}));
    assert.equal(unsigned.status, 401);
  });
});
