import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { type Answer, frame, framed, Gateway, type Json, text, unframed } from "./gateway.ts";

const MIB = 1024 * 1024;

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

function errorOf({ body }: Answer): Json {
  return JSON.parse(text(body)).error;
}

describe("a batch", () => {
  it("is answered in the order of its operations, each by itself", async () => {
    const all = await gateway.batch("order/", [
      { op: "do.increment", key: "a", amount: "1" },
      { op: "do.increment", key: "b" },
      { op: "do.increment", key: "c", amount: "3" },
    ]);
    assert.deepEqual(
      all.map(({ ok, value, code }) => (ok ? value : code)),
      ["1", "invalid_argument", "3"],
    );
  });

  it("has the media type and the version of the gateway", async () => {
    const { headers } = await gateway.request({});
    assert.equal(headers.get("content-type"), "application/vnd.cm-platform.batch");
    assert.equal(headers.get("cm-gateway-version"), "0.1.0");
  });

  it("may be empty", async () => {
    assert.deepEqual(await gateway.batch("empty/", []), []);
  });

  it("keeps the order of operations on one key", async () => {
    const operations = Array.from({ length: 50 }, (_, index) => [
      { op: "do.set", key: "k", value: Buffer.from(`${index}`) },
      { op: "do.get", key: "k" },
    ]).flat();
    const all = await gateway.batch("one-key/", operations);
    const seen = all.filter(({ value }) => value !== undefined).map(({ value }) => `${value}`);
    assert.deepEqual(
      seen,
      Array.from({ length: 50 }, (_, index) => `${index}`),
    );
  });

  it("begins an operation after all before it, if that is asked for", async () => {
    const puts = Array.from({ length: 50 }, (_, index) => ({
      op: "kv.put",
      key: `${index}`,
      value: Buffer.from("v"),
    }));
    const [listed, refused] = (
      await gateway.batch("after/", [
        ...puts,
        { op: "kv.list", prefix: "", after: true },
        { op: "kv.list", prefix: "", after: "yes" },
      ])
    ).slice(-2);
    assert.equal(listed?.["keys"].length, puts.length);
    assert.equal(refused?.["code"], "invalid_argument");
  });

  it("keeps the order of operations on one key among reads of many", async () => {
    const all = await gateway.batch("many-keys/", [
      { op: "kv.put", key: "a", value: Buffer.from("1") },
      { op: "kv.get_many", keys: ["b", "a"] },
      { op: "kv.delete", key: "a" },
      { op: "kv.get_many", keys: ["a", "a"] },
    ]);
    assert.deepEqual(all[1].values, [null, Buffer.from("1")]);
    assert.deepEqual(all[3].values, [null, null]);
  });

  it("does not let an operation that failed hold up the others of its key", async () => {
    const all = await gateway.batch("failing/", [
      { op: "do.set", key: "k", value: Buffer.from("text") },
      { op: "do.increment", key: "k", amount: "1" },
      { op: "do.get", key: "k" },
    ]);
    assert.equal(all[1].code, "precondition_failed");
    assert.equal(`${all[2].value}`, "text");
  });

  it("names operations and bindings that the gateway does not have", async () => {
    const all = await gateway.batch("absent/", [
      { op: "d1.query" },
      { op: "constructor" },
      { op: "kv.get", key: "k", binding: "NOWHERE" },
      { op: "kv.get", key: "k", binding: "VALUES" },
      { op: "do.get", key: "k", binding: "KV" },
      { op: "do.get", key: "k", binding: "NONCES" },
      { op: "kv.get", key: "k", binding: "GATEWAY_KEYS" },
      { op: "kv.get", key: "k", binding: "__proto__" },
    ]);
    for (const { ok, code } of all) {
      assert.deepEqual([ok, code], [false, "unsupported"]);
    }
    assert.match(all[0].message, /d1\.query/);
    assert.match(all[2].message, /NOWHERE/);
  });

  it("reaches the binding that an operation names", async () => {
    const all = await gateway.batch("named/", [
      { op: "kv.put", key: "k", value: Buffer.from("other"), binding: "OTHER_KV" },
      { op: "kv.get", key: "k" },
      { op: "kv.get", key: "k", binding: "OTHER_KV" },
    ]);
    assert.equal(all[1].value, null);
    assert.equal(`${all[2].value}`, "other");
  });

  it("refuses operations that are malformed, with what is wrong", async () => {
    const malformed: [Json, RegExp][] = [
      [{}, /op is missing/],
      [{ op: 1 }, /op must be text/],
      [{ op: "kv.get" }, /key is missing/],
      [{ op: "kv.get", key: 1 }, /key must be text/],
      [{ op: "kv.get", key: "" }, /must not be empty/],
      [{ op: "kv.get", key: "\ud800" }, /key must be text/],
      [{ op: "kv.get_many", keys: "k" }, /list of 1 to 100/],
      [{ op: "kv.get_many", keys: [] }, /list of 1 to 100/],
      [{ op: "kv.get_many", keys: Array(101).fill("k") }, /list of 1 to 100/],
      [{ op: "kv.get_many", keys: [1] }, /list of text/],
      [{ op: "kv.put", key: "k" }, /value is missing/],
      [{ op: "kv.put", key: "k", value: "text" }, /bytes of this batch/],
      [{ op: "kv.put", key: "k", value: { offset: 0, length: 99 } }, /bytes of this batch/],
      [{ op: "kv.put", key: "k", value: { offset: -1, length: 1 } }, /bytes of this batch/],
      [{ op: "do.set", key: "k", value: Buffer.from("v"), only_if: "newer" }, /absent, present/],
      [{ op: "do.set", key: "k", value: Buffer.from("v"), ttl: 0 }, /more than 0/],
      [{ op: "do.set", key: "k", value: Buffer.from("v"), ttl: "1" }, /more than 0/],
      [{ op: "do.set", key: "k", value: Buffer.from("v"), token: "t".repeat(65) }, /1 to 64/],
      [{ op: "do.increment", key: "k", amount: 1 }, /amount must be text/],
      [{ op: "do.increment", key: "k", amount: "1.5" }, /whole number/],
      [{ op: "do.increment", key: "k", amount: "9223372036854775808" }, /whole number/],
    ];
    const all = await gateway.batch(
      "malformed/",
      malformed.map(([operation]) => operation),
    );
    all.forEach((outcome, index) => {
      assert.equal(outcome.code, "invalid_argument", JSON.stringify(malformed[index]));
      assert.match(outcome.message, malformed[index]![1]);
    });
  });

  it("never repeats a key or a value in what it says", async () => {
    const all = await gateway.batch("secret-partition/", [
      { op: "kv.get", key: `secret-key${"k".repeat(600)}` },
      { op: "do.set", key: "secret-key", value: Buffer.from("secret-value") },
      { op: "do.increment", key: "secret-key", amount: "1" },
      { op: "kv.put", key: "secret-key", value: Buffer.from("secret-value"), ttl: 1 },
    ]);
    assert.equal(all.filter(({ ok }) => !ok).length, 3);
    assert.ok(!JSON.stringify(all).includes("secret"));
  });
});

describe("one partition", () => {
  it("never reaches another one's keys", async () => {
    for (const op of ["kv.put", "do.set"]) {
      await gateway.run("tenant-a/", { op, key: "k", value: Buffer.from("a") });
    }
    for (const [partition, key] of [
      ["tenant-b/", "k"],
      ["tenant-b/", "../tenant-a/k"],
      ["tenant-", "k"],
      ["tenant-a", "k"],
    ] as const) {
      for (const op of ["kv.get", "do.get"]) {
        const { value } = await gateway.run(partition, { op, key });
        assert.equal(value, null, `${op} ${partition} ${key}`);
      }
    }
    const { keys } = await gateway.run("tenant-b/", { op: "kv.list", prefix: "" });
    assert.deepEqual(keys, []);
  });

  it("is told apart from a longer one where their keys begin alike", async () => {
    await gateway.run("ab", { op: "do.set", key: "c", value: Buffer.from("ab+c") });
    assert.equal((await gateway.run("a", { op: "do.get", key: "bc" })).value, null);
  });

  it("cannot be named in a body", async () => {
    await gateway.run("mine/", { op: "do.set", key: "k", value: Buffer.from("mine") });
    const forged = { op: "do.get", key: "k", partition: "mine/" };
    assert.equal((await gateway.run("theirs/", forged)).value, null);
  });
});

describe("a request is refused as a whole", () => {
  const MALFORMED: Record<string, Uint8Array> = {
    "without a frame": new Uint8Array(),
    "with half a length": new Uint8Array([0, 0]),
    "with a JSON part that ends too early": framed(Buffer.from("{}")).subarray(0, 5),
    "with a length beyond all bounds": new Uint8Array([255, 255, 255, 255, 123, 125]),
    "with what is no JSON": framed(Buffer.from("{")),
    "with what is no UTF-8": framed(Buffer.from([0x22, 0xff, 0x22])),
    "without operations": framed(Buffer.from("{}")),
    "with operations that are no list": framed(Buffer.from('{"operations":{}}')),
    "with an operation that is no object": framed(Buffer.from('{"operations":[1]}')),
    "with a list in the place of the object": framed(Buffer.from("[]")),
  };
  for (const [what, body] of Object.entries(MALFORMED)) {
    it(what, async () => {
      const answer = await gateway.request({ body });
      assert.equal(answer.status, 400);
      assert.equal(errorOf(answer).code, "invalid_argument");
    });
  }

  it("with more operations than 100, and none is carried out", async () => {
    const operations = Array(101).fill({ op: "do.increment", key: "k", amount: "1" });
    const answer = await gateway.request({ partition: "many/", body: frame(operations) });
    assert.equal(answer.status, 413);
    assert.match(errorOf(answer).message, /100 operations; this one has 101/);
    assert.equal((await gateway.run("many/", { op: "do.get", key: "k" })).value, null);
  });

  it("with more keys than 900", async () => {
    const keys = Array(100).fill("k");
    const answer = await gateway.request({
      body: frame(Array(10).fill({ op: "kv.get_many", keys })),
    });
    assert.equal(answer.status, 413);
    assert.match(errorOf(answer).message, /900 keys; this one reaches 1000/);
  });

  it("with a body of more than 26 MiB", async () => {
    const answer = await gateway.request({ body: new Uint8Array(26 * MIB + 1) });
    assert.equal(answer.status, 413);
    assert.match(errorOf(answer).message, /27262976 bytes/);
  });

  it("for a path that the gateway does not serve; /v2 names what it serves", async () => {
    for (const [method, path] of [
      ["POST", "/v2/batch"],
      ["GET", "/"],
      ["GET", "/v1/batch"],
      ["POST", "/v1/health"],
    ] as const) {
      const body = new Uint8Array();
      const answer = await gateway.request({ method, path, body });
      assert.equal(answer.status, 404, path);
      assert.equal(errorOf(answer).code, "not_found");
      assert.match(errorOf(answer).message, /\/v1\//);
    }
  });
});

describe("a reply", () => {
  it("carries a value of KV's full size", async () => {
    const value = Buffer.alloc(25 * MIB, "v");
    await gateway.run("large/", { op: "kv.put", key: "k", value, metadata: "m".repeat(1000) });
    const found = await gateway.run("large/", { op: "kv.get", key: "k" });
    assert.ok(value.equals(found.value));
    assert.equal(found.metadata.length, 1000);
  });

  it("has room for one of two that do not fit; the other is to be sent again", async () => {
    const value = Buffer.alloc(16 * MIB, "v");
    await gateway.run("two/", { op: "kv.put", key: "a", value });
    await gateway.run("two/", { op: "kv.put", key: "b", value });
    const all = await gateway.batch("two/", [
      { op: "kv.get", key: "a" },
      { op: "kv.get", key: "b" },
    ]);
    const [failure, ...others] = all.filter(({ ok }) => !ok);
    assert.deepEqual(others, []);
    assert.deepEqual([failure.code, failure.not_sent], ["unavailable", true]);
    const many = await gateway.run("two/", { op: "kv.get_many", keys: ["a", "b"] });
    assert.equal(many.code, "invalid_argument");
    assert.match(many.message, /ask for less/);
  });

  it("has no bytes of a read that found too little room", async () => {
    const small = Buffer.alloc(MIB, "s");
    await gateway.run("rest/", { op: "kv.put", key: "small", value: small });
    await gateway.run("rest/", { op: "kv.put", key: "large", value: Buffer.alloc(25 * MIB) });
    const body = frame([
      { op: "kv.get_many", keys: ["small", "large"] },
      { op: "kv.get", key: "small" },
    ]);
    const { json, values } = unframed((await gateway.request({ partition: "rest/", body })).body);
    assert.equal(json.outcomes[0].code, "invalid_argument");
    assert.deepEqual(json.outcomes[1].value, { offset: 0, length: MIB });
    assert.equal(values.byteLength, MIB);
  });

  it("cuts no character of what it repeats in two", async () => {
    const [unknown, unbound] = await gateway.batch("cut/", [
      { op: `${"x".repeat(63)}😀` },
      { op: "kv.get", key: "k", binding: `${"x".repeat(63)}😀` },
    ]);
    assert.ok(unknown.message.isWellFormed());
    assert.ok(unbound.message.isWellFormed());
  });

  it("has the values of a hundred keys as bytes behind its JSON", async () => {
    const keys = Array.from({ length: 100 }, (_, index) => `k${index}`);
    const values = keys.map((key) => Buffer.from(key.repeat(50)));
    await gateway.batch(
      "hundred/",
      keys.map((key, index) => ({ op: "kv.put", key, value: values[index] })),
    );
    const body = frame([{ op: "kv.get_many", keys: [...keys, "absent"].slice(1) }]);
    const answer = await gateway.request({ partition: "hundred/", body });
    const { json, values: part } = unframed(answer.body);
    const spans: Json[] = json.outcomes[0].values;
    assert.equal(spans.at(-1), null);
    assert.equal(
      part.byteLength,
      values.slice(1).reduce((sum, value) => sum + value.length, 0),
    );
    const { offset, length } = spans[41];
    assert.deepEqual(Buffer.from(part.subarray(offset, offset + length)), values[42]);
  });
});
