import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Gateway } from "./gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

const VALUE = Buffer.from([0, 255, 128, 10, 13]);

describe("kv.put and kv.get", () => {
  it("keep bytes and metadata as they are", async () => {
    const metadata = { étiquette: [1, null, "東京"] };
    assert.deepEqual(await gateway.run("t/", { op: "kv.put", key: "k", value: VALUE, metadata }), {
      ok: true,
    });
    const found = await gateway.run("t/", { op: "kv.get", key: "k" });
    assert.deepEqual(found, { ok: true, value: VALUE, metadata });
  });

  it("keep an empty value apart from none", async () => {
    await gateway.run("t/", { op: "kv.put", key: "empty", value: Buffer.alloc(0) });
    const { value } = await gateway.run("t/", { op: "kv.get", key: "empty" });
    assert.deepEqual(value, Buffer.alloc(0));
    const absent = await gateway.run("t/", { op: "kv.get", key: "absent" });
    assert.deepEqual(absent, { ok: true, value: null, metadata: null });
  });

  it("store under the partition and the key, and nothing between", async () => {
    await gateway.run("café/", { op: "kv.put", key: "東京", value: VALUE });
    const namespace = await gateway.miniflare.getKVNamespace("KV");
    assert.notEqual(await namespace.get("café/東京"), null);
  });

  it("give a value its time", async () => {
    const before = Math.floor(Date.now() / 1000);
    await gateway.run("ttl/", { op: "kv.put", key: "k", value: VALUE, ttl: 60 });
    const { keys } = await gateway.run("ttl/", { op: "kv.list", prefix: "" });
    const left = keys[0].expiration - before;
    assert.ok(left >= 59 && left <= 70, `${left}`);
  });

  it("refuse what KV would refuse, before it is asked", async () => {
    const long = "é".repeat(256);
    const refused: [object, RegExp][] = [
      [{ op: "kv.put", key: "k", value: VALUE, ttl: 59 }, /from 60/],
      [{ op: "kv.put", key: "k", value: VALUE, ttl: 60.5 }, /from 60/],
      [{ op: "kv.put", key: long, value: VALUE }, /512 bytes/],
      [{ op: "kv.get", key: long }, /512 bytes/],
      [{ op: "kv.get", key: "k", cache_ttl: 29 }, /from 30/],
      [{ op: "kv.put", key: "k", value: VALUE, metadata: "é".repeat(512) }, /1024 bytes/],
    ];
    const all = await gateway.batch(
      "t/",
      refused.map(([operation]) => operation),
    );
    all.forEach(({ code, message }, index) => {
      assert.equal(code, "invalid_argument");
      assert.match(message, refused[index]![1]);
    });
  });

  it("refuse a value of more than 25 MiB", async () => {
    const value = Buffer.alloc(25 * 1024 * 1024 + 1);
    const { code, message } = await gateway.run("t/", { op: "kv.put", key: "k", value });
    assert.equal(code, "invalid_argument");
    assert.match(message, /26214400 bytes/);
  });

  it("take keys, values and metadata that just fit", async () => {
    const key = "k".repeat(512 - "t/".length);
    const metadata = "m".repeat(1022);
    await gateway.run("t/", { op: "kv.put", key, value: VALUE, metadata, ttl: 60 });
    const found = await gateway.run("t/", { op: "kv.get", key, cache_ttl: 30 });
    assert.deepEqual(found.value, VALUE);
    assert.equal(found.metadata, metadata);
  });
});

describe("kv.delete", () => {
  it("is the same for a key that is there and one that is not", async () => {
    await gateway.run("del/", { op: "kv.put", key: "k", value: VALUE });
    for (const key of ["k", "k", "absent"]) {
      assert.deepEqual(await gateway.run("del/", { op: "kv.delete", key }), { ok: true });
    }
    assert.equal((await gateway.run("del/", { op: "kv.get", key: "k" })).value, null);
  });
});

describe("kv.list", () => {
  before(async () => {
    const names = ["a/1", "a/2", "a/3", "b/1"];
    await gateway.batch(
      "list/",
      names.map((key) => ({ op: "kv.put", key, value: VALUE, metadata: { key } })),
    );
    await gateway.run("list-of-another/", { op: "kv.put", key: "a/1", value: VALUE });
  });

  it("has the partition's keys, relative to it, with time and metadata", async () => {
    const { keys, cursor } = await gateway.run("list/", { op: "kv.list" });
    assert.deepEqual(
      keys,
      ["a/1", "a/2", "a/3", "b/1"].map((key) => ({ key, expiration: null, metadata: { key } })),
    );
    assert.equal(cursor, null);
  });

  it("goes on where its cursor says", async () => {
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page = await gateway.run("list/", { op: "kv.list", prefix: "a/", limit: 2, cursor });
      seen.push(...page.keys.map(({ key }: { key: string }) => key));
      cursor = page.cursor;
    } while (cursor !== null);
    assert.deepEqual(seen, ["a/1", "a/2", "a/3"]);
  });

  it("never leaves the partition by another one's cursor", async () => {
    const { cursor } = await gateway.run("list/", { op: "kv.list", limit: 1 });
    const page = await gateway.run("list-of-another/", { op: "kv.list", cursor });
    for (const { key } of page.keys ?? []) {
      assert.equal(key, "a/1");
    }
  });

  it("refuses pages of more than 1,000", async () => {
    const { code } = await gateway.run("list/", { op: "kv.list", limit: 1001 });
    assert.equal(code, "invalid_argument");
  });
});
