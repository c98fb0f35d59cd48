import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBase64url, hex } from "../src/bytes.ts";
import { canonical } from "../src/canonical.ts";
import { KeyRing } from "../src/keys.ts";
import document from "./vectors.json" with { type: "json" };

for (const vector of document.vectors) {
  test(`what is signed, and its signature: ${vector.name}`, async () => {
    const signed = await canonical({
      keyId: vector.key_id,
      method: vector.method,
      path: vector.path,
      query: vector.query,
      body: Uint8Array.from(Buffer.from(vector.body_hex, "hex")),
      timestamp: vector.timestamp,
      nonce: vector.nonce,
      partition: vector.partition,
    });
    assert.equal(hex(signed), vector.canonical_hex);
    assert.equal(encodeURIComponent(vector.partition), vector.headers["cm-partition"]);

    const ring = await KeyRing.read(JSON.stringify({ [vector.key_id]: vector.secret }));
    const signature = fromBase64url(vector.headers["cm-signature"]);
    assert.ok(await ring.verify(vector.key_id, signature, signed));
    assert.ok(!(await ring.verify("another", signature, signed)));
  });
}
