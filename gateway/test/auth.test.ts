import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";

import {
  type Answer,
  eventually,
  frame,
  Gateway,
  KEYS,
  type Sent,
  sign,
  send,
  text,
  type Unsigned,
  unsigned,
} from "./gateway.ts";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway[Symbol.asyncDispose]());

const REFUSAL = {
  error: {
    code: "unauthenticated",
    message: "the request is not signed as this gateway demands",
  },
};

function assertRefused({ status, headers, body }: Answer): void {
  assert.equal(status, 401);
  assert.deepEqual(JSON.parse(text(body)), REFUSAL);
  assert.equal(headers.get("cm-gateway-version"), "0.1.0");
  assert.equal(headers.get("content-type"), "application/json");
}

/** Another character than the one that stands there. */
function altered(value: string, at = 0): string {
  return value.slice(0, at) + (value[at] === "A" ? "B" : "A") + value.slice(at + 1);
}

describe("a signed request", () => {
  it("is accepted", async () => {
    assert.equal((await gateway.request({})).status, 200);
  });

  it("is accepted under each of several keys, so that keys rotate", async () => {
    for (const [keyId, secret] of Object.entries(KEYS)) {
      assert.equal((await gateway.request({ keyId, secret })).status, 200, keyId);
    }
  });

  for (const partition of ["café/東京 🗼/", "a%2F&=+?#/\\", "-_.!~*'()", "x".repeat(2000)]) {
    it(`is accepted for the partition ${partition.slice(0, 20)}`, async () => {
      assert.equal((await gateway.request({ partition })).status, 200);
    });
  }

  it("is accepted with its query in another order, since the query is sorted", async () => {
    const health = { method: "GET", path: "/v1/health", body: new Uint8Array() };
    const { status } = await gateway.request({ ...health, query: "b=2&a=%41&a=1" }, (sent) => {
      sent.url = sent.url.replace("b=2&a=%41&a=1", "a=1&b=2&a=%41");
    });
    assert.equal(status, 200);
  });

  for (const seconds of [-55, 55]) {
    it(`is accepted from a clock that differs by ${seconds} s`, async () => {
      const timestamp = String(Date.now() + seconds * 1000);
      assert.equal((await gateway.request({ timestamp })).status, 200);
    });
  }
});

describe("a request is refused, always in the same words,", () => {
  it("when it comes a second time", async () => {
    let again: Sent;
    const first = await gateway.request({}, (sent) => (again = { ...sent }));
    assert.equal(first.status, 200);
    assertRefused(await send(again!));
  });

  it("when sixteen copies come at once: one is accepted", async () => {
    const origin = (await gateway.miniflare.ready).origin;
    const sent = sign(origin, unsigned());
    const answers = await Promise.all(Array.from({ length: 16 }, () => send(sent)));
    const accepted = answers.filter(({ status }) => status === 200);
    assert.equal(accepted.length, 1);
    answers.filter(({ status }) => status !== 200).forEach(assertRefused);
  });

  for (const name of ["cm-key-id", "cm-timestamp", "cm-nonce", "cm-partition", "cm-signature"]) {
    it(`without ${name}`, async () => {
      assertRefused(await gateway.request({}, (sent) => delete sent.headers[name]));
    });
    it(`with an empty ${name}`, async () => {
      assertRefused(await gateway.request({}, (sent) => (sent.headers[name] = "")));
    });
  }

  const UNSIGNED: Record<string, Partial<Unsigned>> = {
    "by an unknown key": { keyId: "unknown" },
    "by a key id that every object has": { keyId: "__proto__" },
    "by another key's secret": { keyId: "old", secret: KEYS.new },
    "by a wrong secret": { secret: "x".repeat(40) },
    "from a clock that is 61 s behind": { timestamp: String(Date.now() - 61_000) },
    "from a clock that is 65 s ahead": { timestamp: String(Date.now() + 65_000) },
    "with a timestamp that is no whole number": { timestamp: `${Date.now()}.5` },
    "with a timestamp in hexadecimal": { timestamp: `0x${Date.now().toString(16)}` },
    "with a nonce that is too short": { nonce: randomBytes(15).toString("base64url") },
    "with a nonce that is too long": { nonce: randomBytes(17).toString("base64url") },
    "with a nonce beyond base64url": { nonce: "+".repeat(22) },
    "with an empty partition": { partition: "" },
    "with a partition that has NUL": { partition: "a\0b" },
  };
  for (const [what, changes] of Object.entries(UNSIGNED)) {
    it(what, async () => assertRefused(await gateway.request(changes)));
  }

  const TAMPERED: Record<string, (sent: Sent) => void> = {
    "with an altered body": (sent) => (sent.body = frame([{ op: "kv.delete", key: "k" }])),
    "with a longer body": (sent) => (sent.body = Buffer.concat([sent.body, Buffer.alloc(1)])),
    "with a shorter body": (sent) => (sent.body = sent.body.subarray(1)),
    "with an altered path": (sent) => (sent.url = sent.url.replace("/batch", "/health")),
    "with an added query": (sent) => (sent.url += "?a=1"),
    "with an altered method": (sent) => (sent.method = "PUT"),
    "for a foreign partition": (sent) => (sent.headers["cm-partition"] = "other%2F"),
    "for a partition that was cut": (sent) => (sent.headers["cm-partition"] = "tenant"),
    "for no partition": (sent) => (sent.headers["cm-partition"] = ""),
    "with another spelling of the partition": (sent) =>
      (sent.headers["cm-partition"] = "tenant%2f"),
    "with a partition that was not encoded": (sent) => (sent.headers["cm-partition"] = "tenant/"),
    "with a partition that is not UTF-8": (sent) => (sent.headers["cm-partition"] = "%ff"),
    "with an altered nonce": (sent) => {
      sent.headers["cm-nonce"] = altered(sent.headers["cm-nonce"]!);
    },
    "with an altered timestamp": (sent) => {
      sent.headers["cm-timestamp"] = String(Number(sent.headers["cm-timestamp"]) + 1);
    },
    "under another valid key id": (sent) => (sent.headers["cm-key-id"] = "old"),
    "with an altered signature": (sent) => {
      sent.headers["cm-signature"] = altered(sent.headers["cm-signature"]!, 20);
    },
    "with a signature that is too short": (sent) => {
      sent.headers["cm-signature"] = sent.headers["cm-signature"]!.slice(1);
    },
  };
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    it(what, async () => assertRefused(await gateway.request({}, tamper)));
  }

  it("when a character moved from one field into the next", async () => {
    const health = { method: "GET", path: "/v1/health", query: "a", body: new Uint8Array() };
    const moved = (sent: Sent) => (sent.url = sent.url.replace("/health?a", "/healtha"));
    assertRefused(await gateway.request(health, moved));
  });

  it("when its time is over before its body is there", async () => {
    const origin = (await gateway.miniflare.ready).origin;
    const end = Date.now() + 1500;
    const sent = sign(origin, { ...unsigned(), timestamp: String(end - 60_000) });
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        controller.enqueue(sent.body.slice(0, 4));
        await eventually(async () => Date.now() > end + 200);
        controller.enqueue(sent.body.slice(4));
        controller.close();
      },
    });
    const { url, method, headers } = sent;
    // The types are workerd's, where a stream needs no such word.
    const response = await fetch(url, { method, headers, body, duplex: "half" } as RequestInit);
    assertRefused({
      status: response.status,
      headers: response.headers,
      body: new Uint8Array(await response.arrayBuffer()),
    });
  });

  it("unsigned, whatever it asks for", async () => {
    for (const path of ["/", "/v1/health", "/v1/batch", "/v2/batch", "/nothing"]) {
      const url = (await gateway.miniflare.ready).origin + path;
      assertRefused(await send({ url, method: "GET", headers: {}, body: new Uint8Array() }));
    }
  });

  it("and does not use up its nonce, so that a stranger cannot", async () => {
    const { nonce } = unsigned();
    assertRefused(await gateway.request({ nonce, secret: "x".repeat(40) }));
    assert.equal((await gateway.request({ nonce })).status, 200);
  });
});

describe("a gateway that is not configured", () => {
  const SECRETS: Record<string, string> = {
    "is no JSON": "a secret",
    "is no object": '["a secret that is long enough, is it not"]',
    "has no key": "{}",
    "has a short secret": '{"k": "short"}',
    "has a key id with a blank": '{"k 1": "a secret that is long enough, is it not"}',
  };
  for (const [what, secret] of Object.entries(SECRETS)) {
    it(`accepts nothing: GATEWAY_KEYS ${what}`, async () => {
      await using unconfigured = await Gateway.start({ GATEWAY_KEYS: secret });
      const { status, body } = await unconfigured.request({ keyId: "k", secret: "short" });
      assert.equal(status, 500);
      assert.equal(JSON.parse(text(body)).error.code, "internal");
      assert.ok(!text(body).includes("secret"));
    });
  }
});
