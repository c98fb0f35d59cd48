import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { eventually, Gateway, type Json } from "./gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

const VALUE = Buffer.from([0, 255, 128]);
const OTHER = Buffer.from("other");

/** A key of its own for each test, and operations on it. */
let number = 0;
function newKey() {
  const key = `key-${++number}`;
  const run = (op: string, fields: Json = {}): Promise<Json> =>
    gateway.run("values/", { op: `do.${op}`, key, ...fields });
  return {
    run,
    object: () => gateway.inspect("VALUES", `7:values/${key}`),
    set: (value: Uint8Array, fields: Json = {}) => run("set", { value, ...fields }),
    value: async () => (await run("get")).value,
  };
}

describe("do.set and do.get", () => {
  it("keep bytes, at once, for ever", async () => {
    const key = newKey();
    assert.deepEqual(await key.run("get"), { ok: true, value: null, expires_in: null });
    assert.deepEqual(await key.set(VALUE), { ok: true, stored: true });
    assert.deepEqual(await key.run("get"), { ok: true, value: VALUE, expires_in: null });
  });

  it("keep an empty value apart from none", async () => {
    const key = newKey();
    await key.set(Buffer.alloc(0));
    assert.deepEqual(await key.value(), Buffer.alloc(0));
  });

  it("keep a value as large as the limit, and refuse a larger one", async () => {
    const key = newKey();
    const largest = Buffer.alloc(1_999_000, "v");
    assert.deepEqual(await key.set(largest), { ok: true, stored: true });
    assert.ok(largest.equals(await key.value()));
    const { code, message } = await key.set(Buffer.alloc(1_999_001));
    assert.equal(code, "invalid_argument");
    assert.match(message, /1999000 bytes/);
  });

  it("read many large values in one batch, within the reply's room", async () => {
    const keys = Array.from({ length: 20 }, (_, index) => `large-${index}`);
    const value = Buffer.alloc(1_500_000, "v");
    for (const key of keys) {
      await gateway.run("values/", { op: "do.set", key, value });
    }
    const all = await gateway.batch(
      "values/",
      keys.map((key) => ({ op: "do.get", key })),
    );
    const answered = all.filter(({ ok }) => ok);
    assert.equal(answered.length, 18);
    assert.ok(answered.every((outcome) => value.equals(outcome.value)));
    const failures = all.filter(({ ok }) => !ok);
    assert.ok(failures.every(({ code, not_sent }) => code === "unavailable" && not_sent));
  });

  it("end a value's time to the millisecond", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 0.25 });
    const { value, expires_in } = await key.run("get");
    assert.deepEqual(value, VALUE);
    assert.ok(expires_in > 0 && expires_in <= 0.25, `${expires_in}`);
    await eventually(async () => (await key.value()) === null, 2);
  });

  it("replace the time together with the value", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 100 });
    await key.set(OTHER);
    assert.deepEqual(await key.run("get"), { ok: true, value: OTHER, expires_in: null });
  });

  it("store only where the key is absent, or present, if so told", async () => {
    const key = newKey();
    assert.equal((await key.set(VALUE, { only_if: "present" })).stored, false);
    assert.equal((await key.set(VALUE, { only_if: "absent" })).stored, true);
    assert.equal((await key.set(OTHER, { only_if: "absent" })).stored, false);
    assert.deepEqual(await key.value(), VALUE);
    assert.equal((await key.set(OTHER, { only_if: "present" })).stored, true);
    assert.deepEqual(await key.value(), OTHER);
  });

  it("take what has expired for absent", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 0.001 });
    await eventually(async () => (await key.set(OTHER, { only_if: "absent" })).stored);
    assert.deepEqual(await key.value(), OTHER);
  });

  it("let one of sixteen win that store only if absent", async () => {
    const key = newKey();
    const stores = Array.from({ length: 16 }, () => key.set(VALUE, { only_if: "absent" }));
    const won = (await Promise.all(stores)).filter(({ stored }) => stored);
    assert.equal(won.length, 1);
  });
});

describe("do.delete", () => {
  it("tells whether there was a value", async () => {
    const key = newKey();
    assert.equal((await key.run("delete")).existed, false);
    await key.set(VALUE);
    assert.equal((await key.run("delete")).existed, true);
    assert.equal(await key.value(), null);
    assert.equal((await key.run("delete")).existed, false);
  });

  it("leaves a key that can be used again", async () => {
    const key = newKey();
    for (const value of [VALUE, OTHER]) {
      await key.set(value, { ttl: 100 });
      assert.deepEqual(await key.value(), value);
      await key.run("delete");
    }
  });
});

describe("do.compare_and_set", () => {
  it("stores only what was expected to be replaced", async () => {
    const key = newKey();
    const swap = async (expected: Uint8Array | null, value: Uint8Array | null, fields = {}) =>
      (await key.run("compare_and_set", { expected, value, ...fields })).stored;
    assert.equal(await swap(VALUE, OTHER), false);
    assert.equal(await swap(null, VALUE), true);
    assert.equal(await swap(null, OTHER), false);
    assert.equal(await swap(Buffer.from([0, 255, 129]), OTHER), false);
    assert.equal(await swap(VALUE.subarray(1), OTHER), false);
    assert.deepEqual(await key.value(), VALUE);
    assert.equal(await swap(VALUE, OTHER, { ttl: 100 }), true);
    assert.ok((await key.run("get")).expires_in > 99);
    assert.equal(await swap(VALUE, null), false);
    assert.equal(await swap(OTHER, null), true);
    assert.equal(await key.value(), null);
    assert.equal(await swap(null, null), true);
  });

  it("lets one of sixteen win", async () => {
    const key = newKey();
    await key.set(VALUE);
    const swaps = Array.from({ length: 16 }, (_, index) =>
      key.run("compare_and_set", { expected: VALUE, value: Buffer.from(`${index}`) }),
    );
    assert.equal((await Promise.all(swaps)).filter(({ stored }) => stored).length, 1);
  });
});

describe("do.expire", () => {
  it("gives a value another time, or none", async () => {
    const key = newKey();
    assert.equal((await key.run("expire", { ttl: 1 })).existed, false);
    await key.set(VALUE);
    assert.equal((await key.run("expire", { ttl: 100 })).existed, true);
    assert.ok((await key.run("get")).expires_in > 99);
    assert.equal((await key.run("expire", { ttl: null })).existed, true);
    assert.deepEqual(await key.run("get"), { ok: true, value: VALUE, expires_in: null });
  });

  it("ends it sooner than it would have ended", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 100 });
    await key.run("expire", { ttl: 0.05 });
    await eventually(async () => (await key.value()) === null, 2);
  });
});

describe("do.increment", () => {
  it("counts decimal text, as other programs keep it", async () => {
    const key = newKey();
    const add = (amount: string, fields = {}) => key.run("increment", { amount, ...fields });
    assert.deepEqual(await add("5"), { ok: true, value: "5", stamp: null });
    assert.deepEqual(await add("-7"), { ok: true, value: "-2", stamp: null });
    assert.deepEqual(await key.value(), Buffer.from("-2"));
    await key.set(Buffer.from("41"));
    assert.equal((await add("1")).value, "42");
  });

  it("gives each of fifty callers a number of its own", async () => {
    const key = newKey();
    const adds = Array.from({ length: 50 }, () => key.run("increment", { amount: "1" }));
    const values = (await Promise.all(adds)).map(({ value }) => Number(value));
    assert.deepEqual(
      values.toSorted((a, b) => a - b),
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
  });

  it("gives a time to a counter that it creates, and never again", async () => {
    const key = newKey();
    await key.run("increment", { amount: "1", ttl: 100 });
    await key.run("increment", { amount: "1", ttl: 9000 });
    const { expires_in } = await key.run("get");
    assert.ok(expires_in > 99 && expires_in <= 100, `${expires_in}`);
    const lasting = newKey();
    await lasting.set(Buffer.from("1"));
    await lasting.run("increment", { amount: "1", ttl: 100 });
    assert.equal((await lasting.run("get")).expires_in, null);
  });

  it("stays within 64 bit, and leaves the counter as it was", async () => {
    for (const [start, amount] of [
      ["9223372036854775807", "1"],
      ["-9223372036854775808", "-1"],
    ] as const) {
      const key = newKey();
      assert.equal((await key.run("increment", { amount: start })).value, start);
      assert.equal((await key.run("increment", { amount })).code, "invalid_argument");
      assert.deepEqual(await key.value(), Buffer.from(start));
    }
  });

  for (const text of ["", "text", "1.5", " 1", "+1", "01", "-0", "é", "1".repeat(21)]) {
    it(`refuses to count what is no counter: ${JSON.stringify(text)}`, async () => {
      const key = newKey();
      await key.set(Buffer.from(text));
      const { code } = await key.run("increment", { amount: "1" });
      assert.equal(code, "precondition_failed");
      assert.deepEqual(await key.value(), Buffer.from(text));
    });
  }
});

/** An entry of the cache, written apart from src/counter.ts. */
function entry(flags: number, stamp: bigint, ends: bigint, payload: string): Buffer {
  const header = Buffer.alloc(34);
  header.writeUInt8(0xc5, 0);
  header.writeUInt8(flags, 1);
  header.writeBigUInt64BE(stamp, 2);
  header.writeBigUInt64BE(0x0123456789abcdefn, 10);
  header.writeBigUInt64BE(ends, 18);
  header.writeBigUInt64BE(ends, 26);
  return Buffer.concat([header, Buffer.from(payload)]);
}

describe("do.increment with an initial entry", () => {
  it("keeps an entry of the cache", async () => {
    const key = newKey();
    const first = await key.run("increment", { amount: "5", initial: entry(3, 7n, 0n, "5") });
    assert.deepEqual(first, { ok: true, value: "5", stamp: "7" });
    assert.deepEqual(await key.value(), entry(3, 7n, 0n, "5"));
    assert.equal((await key.run("increment", { amount: "-6", initial: entry(3, 7n, 0n, "-6") })).value, "-1");
    assert.deepEqual(await key.value(), entry(3, 7n, 0n, "-1"));
  });

  it("begins anew where the stamp is lower, and tells the stamp where it is higher", async () => {
    const key = newKey();
    await key.run("increment", { amount: "5", initial: entry(3, 7n, 0n, "5") });
    const older = await key.run("increment", { amount: "1", initial: entry(3, 6n, 0n, "1") });
    assert.deepEqual(older, { ok: true, value: "6", stamp: "7" });
    const newer = await key.run("increment", { amount: "1", initial: entry(3, 18446744073709551615n, 0n, "1") });
    assert.deepEqual(newer, { ok: true, value: "1", stamp: "18446744073709551615" });
  });

  it("keeps the header and the time that the counter began with", async () => {
    const key = newKey();
    await key.run("increment", { amount: "1", initial: entry(3, 1n, 77n, "1"), ttl: 100 });
    await key.run("increment", { amount: "2", initial: entry(3, 1n, 99n, "2"), ttl: 9000 });
    assert.deepEqual(await key.value(), entry(3, 1n, 77n, "3"));
    assert.ok((await key.run("get")).expires_in <= 100);
  });

  it("refuses an initial entry that is none, or has another amount", async () => {
    const key = newKey();
    const wrong = [
      Buffer.from("1"),
      Buffer.alloc(0),
      entry(0, 1n, 0n, "1"),
      entry(3, 1n, 0n, "2"),
      entry(3, 1n, 0n, "01"),
      entry(3, 1n, 0n, ""),
      entry(3, 1n, 0n, "1".repeat(900_000)),
    ];
    for (const initial of wrong) {
      const { code } = await key.run("increment", { amount: "1", initial });
      assert.equal(code, "invalid_argument");
    }
    assert.equal(await key.value(), null);
  });

  it("counts on in an entry that is no counter only when it is outdated", async () => {
    for (const flags of [0, 1, 2, 0x13, 0x23]) {
      const key = newKey();
      await key.set(entry(flags, 7n, 0n, "5"), { ttl: 100 });
      const kept = await key.run("increment", { amount: "1", initial: entry(3, 7n, 0n, "1") });
      assert.equal(kept.code, "precondition_failed");
      const outdated = await key.run("increment", { amount: "1", initial: entry(3, 8n, 0n, "1") });
      assert.equal(outdated.value, "1");
      assert.equal((await key.run("get")).expires_in, null);
    }
  });

  it("refuses what is no entry, whatever the stamp", async () => {
    for (const value of ["5", "", "\0".repeat(40), entry(3, 0n, 0n, "5").subarray(0, 33)]) {
      const key = newKey();
      await key.set(Buffer.from(value));
      const { code } = await key.run("increment", { amount: "1", initial: entry(3, 99n, 0n, "1") });
      assert.equal(code, "precondition_failed");
    }
  });
});

describe("a token", () => {
  it("makes a repeated increment answer as the first did", async () => {
    const key = newKey();
    const add = (token: string) => key.run("increment", { amount: "1", token });
    const first = await add("one");
    assert.equal((await add("two")).value, "2");
    assert.deepEqual(await add("one"), first);
    assert.equal(`${await key.value()}`, "2");
  });

  it("makes a repeated conditional write answer as the first did", async () => {
    const key = newKey();
    const set = () => key.set(VALUE, { only_if: "absent", token: "set" });
    assert.equal((await set()).stored, true);
    assert.equal((await set()).stored, true);
    const swap = () => key.run("compare_and_set", { expected: VALUE, value: OTHER, token: "swap" });
    assert.equal((await swap()).stored, true);
    assert.equal((await swap()).stored, true);
    assert.deepEqual(await key.value(), OTHER);
  });

  it("is remembered though the value is gone", async () => {
    const key = newKey();
    assert.equal((await key.set(VALUE, { token: "set" })).stored, true);
    await key.run("delete");
    assert.equal((await key.set(VALUE, { token: "set" })).stored, true);
    assert.equal(await key.value(), null);
  });

  it("is forgotten after 31 others", async () => {
    const key = newKey();
    const add = (token: string) => key.run("increment", { amount: "1", token });
    for (let index = 1; index <= 33; index++) {
      await add(`token-${index}`);
    }
    assert.equal((await add("token-2")).value, "2");
    assert.equal((await add("token-1")).value, "34");
  });

  it("counts for its own key only", async () => {
    for (const key of [newKey(), newKey()]) {
      assert.equal((await key.run("increment", { amount: "1", token: "t" })).value, "1");
    }
  });
});

describe("an object that keeps nothing any more is empty", () => {
  const EMPTY = { kept: [], alarm: null };

  it("when its value was deleted", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 100 });
    const { kept, alarm } = await key.object();
    assert.deepEqual(kept, ["entry"]);
    assert.ok(alarm > Date.now() + 90_000);
    await key.run("delete");
    assert.deepEqual(await key.object(), EMPTY);
  });

  it("when its value's time is over, without anybody asking", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 0.05 });
    await eventually(async () => (await key.object()).kept.length === 0);
    assert.deepEqual(await key.object(), EMPTY);
  });

  it("when the value was given a shorter time", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 100 });
    await key.run("expire", { ttl: 0.05 });
    await eventually(async () => (await key.object()).kept.length === 0);
  });

  it("when the value was given a longer time, not before that is over", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 0.05 });
    await key.run("expire", { ttl: 100 });
    await eventually(async () => (await key.object()).alarm > Date.now() + 90_000);
    assert.deepEqual(await key.value(), VALUE);
  });

  it("when the tokens that it remembers have aged", async () => {
    const key = newKey();
    await key.set(VALUE, { token: "t" });
    await key.run("delete");
    const { kept, alarm } = await key.object();
    assert.deepEqual(kept, ["outcomes"]);
    assert.ok(alarm > Date.now() + 590_000 && alarm <= Date.now() + 600_000);
  });

  it("of its value, though it still remembers tokens", async () => {
    const key = newKey();
    await key.set(VALUE, { ttl: 0.05, token: "t" });
    await eventually(async () => (await key.object()).kept.length === 1);
    assert.deepEqual((await key.object()).kept, ["outcomes"]);
  });

  it("when nothing was ever stored, whatever was asked", async () => {
    const key = newKey();
    await key.run("get");
    await key.run("delete");
    await key.run("expire", { ttl: 1 });
    await key.set(VALUE, { only_if: "present" });
    assert.deepEqual(await key.object(), EMPTY);
  });
});
