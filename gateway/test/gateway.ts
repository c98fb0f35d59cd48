/** The built gateway in workerd, and a client that signs; its requests can be tampered with. */

import { createHash, createHmac, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";

import { Miniflare } from "miniflare";

const WORKER = join(import.meta.dirname, "../dist/worker.js");
const INSPECTED = join(import.meta.dirname, "inspected.mjs");
const CONFIGURATION = join(import.meta.dirname, "../wrangler.jsonc");

export const KEYS = {
  old: "the old secret, of 32 characters and more",
  new: "the new secret, of 32 characters and more",
};

/** A request before it is signed. */
export interface Unsigned {
  method: string;
  path: string;
  query: string;
  body: Uint8Array;
  partition: string;
  keyId: string;
  secret: string;
  timestamp: string;
  nonce: string;
}

export interface Sent {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: Uint8Array;
}

export interface Answer {
  status: number;
  headers: Headers;
  body: Uint8Array;
}

/** What JSON.parse answers. */
export type Json = any;

export class Gateway implements AsyncDisposable {
  readonly miniflare: Miniflare;
  readonly #url: URL;

  private constructor(miniflare: Miniflare, url: URL) {
    this.miniflare = miniflare;
    this.#url = url;
  }

  static async start(bindings: Record<string, string> = {}): Promise<Gateway> {
    const text = await readFile(CONFIGURATION, "utf-8");
    const miniflare = new Miniflare({
      modules: [
        { type: "ESModule", path: "inspected.mjs", contents: await readFile(INSPECTED, "utf-8") },
        { type: "ESModule", path: "worker.js", contents: await readFile(WORKER, "utf-8") },
      ],
      compatibilityDate: /"compatibility_date": "([0-9-]+)"/.exec(text)![1]!,
      cf: false,
      bindings: { GATEWAY_KEYS: JSON.stringify(KEYS), PLAIN: "no product", ...bindings },
      kvNamespaces: ["KV", "OTHER_KV"],
      durableObjects: {
        VALUES: { className: "Values", useSQLite: true },
        NONCES: { className: "Nonces", useSQLite: true },
      },
      handleRuntimeStdio: (stdout: Readable, stderr: Readable) => {
        // What the Worker logs on purpose is no news in a test run.
        stdout.resume();
        stderr.resume();
      },
    });
    return new Gateway(miniflare, await miniflare.ready);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.miniflare.dispose();
  }

  /** Signs and sends; `tamper` changes what was signed already. */
  request(changes: Partial<Unsigned>, tamper: (sent: Sent) => void = () => {}): Promise<Answer> {
    const sent = sign(this.#url.origin, { ...unsigned(), ...changes });
    tamper(sent);
    return send(sent);
  }

  /** The outcomes of a batch; throws if it was refused as a whole. */
  async batch(partition: string, operations: Json[]): Promise<Json[]> {
    const { status, body } = await this.request({ partition, body: frame(operations) });
    if (status !== 200) {
      throw new Error(`${status}: ${text(body)}`);
    }
    const { json, values } = unframed(body);
    return json.outcomes.map((outcome: Json) => filled(outcome, values));
  }

  /** What test/inspected.mjs tells of an object, by its binding and its name. */
  async inspect(binding: string, name: string, query = ""): Promise<Json> {
    const namespace = await this.miniflare.getDurableObjectNamespace(binding);
    const stub = namespace.get(namespace.idFromName(name));
    return (await stub.fetch(`http://inspected/${query}`)).json();
  }

  /** The outcome of one operation. */
  async run(partition: string, operation: Json): Promise<Json> {
    const [outcome] = await this.batch(partition, [operation]);
    return outcome;
  }
}

/** An outcome, with its values in the place of where they stood. */
function filled(outcome: Json, values: Uint8Array): Json {
  const at = (span: Json) =>
    span !== null && typeof span === "object"
      ? Buffer.from(values.subarray(span.offset, span.offset + span.length))
      : span;
  return {
    ...outcome,
    ...("value" in outcome ? { value: at(outcome.value) } : {}),
    ...("values" in outcome ? { values: outcome.values.map(at) } : {}),
  };
}

export function unsigned(): Unsigned {
  return {
    method: "POST",
    path: "/v1/batch",
    query: "",
    body: frame([]),
    partition: "tenant/",
    keyId: "new",
    secret: KEYS.new,
    timestamp: String(Date.now()),
    nonce: randomBytes(16).toString("base64url"),
  };
}

/** Written apart from src/canonical.ts, from the protocol. */
export function sign(origin: string, parts: Unsigned): Sent {
  const fields = [
    "cm-gateway-v1",
    parts.keyId,
    parts.method,
    parts.path,
    parts.query.split("&").toSorted().join("&"),
    createHash("sha256").update(parts.body).digest("hex"),
    parts.timestamp,
    parts.nonce,
    parts.partition,
  ];
  const mac = createHmac("sha256", parts.secret);
  for (const field of fields) {
    const bytes = Buffer.from(field, "utf-8");
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    mac.update(length).update(bytes);
  }
  return {
    url: origin + parts.path + (parts.query && `?${parts.query}`),
    method: parts.method,
    headers: {
      "cm-key-id": parts.keyId,
      "cm-timestamp": parts.timestamp,
      "cm-nonce": parts.nonce,
      "cm-partition": encodeURIComponent(parts.partition),
      "cm-signature": mac.digest("base64url"),
    },
    body: parts.body,
  };
}

export async function send({ url, method, headers, body }: Sent): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers,
    ...(method === "GET" ? {} : { body: Buffer.from(body) }),
  });
  return {
    status: response.status,
    headers: response.headers,
    body: new Uint8Array(await response.arrayBuffer()),
  };
}

/** A frame; a Buffer in an operation becomes a span. */
export function frame(operations: Json[]): Uint8Array {
  const values: Uint8Array[] = [];
  let offset = 0;
  const json = JSON.stringify({ operations }, function (this: Json, name: string, value: Json) {
    const original = this[name];
    if (!(original instanceof Uint8Array)) {
      return value;
    }
    const span = { offset, length: original.byteLength };
    values.push(original);
    offset += original.byteLength;
    return span;
  });
  return framed(Buffer.from(json, "utf-8"), ...values);
}

export function framed(json: Uint8Array, ...values: Uint8Array[]): Uint8Array {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.byteLength);
  return Buffer.concat([length, json, ...values]);
}

export function unframed(body: Uint8Array): { json: Json; values: Uint8Array } {
  const end = 4 + Buffer.from(body).readUInt32BE();
  return { json: JSON.parse(text(body.subarray(4, end))), values: body.subarray(end) };
}

export function text(body: Uint8Array): string {
  return Buffer.from(body).toString("utf-8");
}

/** Asks again until it holds; for what time brings about. */
export async function eventually(holds: () => Promise<boolean>, seconds = 10): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (Date.now() > deadline) {
      throw new Error(`still not so after ${seconds} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
