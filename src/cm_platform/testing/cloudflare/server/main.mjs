// A local Cloudflare: the gateway in workerd, KV behind it, and the REST face. Started by
// supervise.py; the first line of stdin is the configuration, and stdin's end is ours.

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Clock } from "./clock.mjs";
import { innerServer } from "./inner.mjs";
import { KvBinding } from "./kv/binding.mjs";
import { Rules } from "./kv/rules.mjs";
import { KvStore } from "./kv/store.mjs";
import { Versions } from "./kv/versions.mjs";
import { restServer } from "./rest/server.mjs";
import { startGateway } from "./worker/gateway.mjs";

const CLOCK_FACT = "clock_offset";

async function main(configuration) {
  const { gateway, rest, kv, limits, secret, persist } = configuration;
  if (persist !== null) mkdirSync(persist, { recursive: true });
  const versions = new Versions(persist === null ? ":memory:" : join(persist, "kv.sqlite"));
  const clock = new Clock(Number(versions.fact(CLOCK_FACT) ?? 0));
  versions.createNamespace(kv.namespace, kv.title);
  const rules = new Rules(limits.kv);
  const store = new KvStore(versions, rules, clock, limits.kv, kv.consistency);

  const face = restServer({ account: rest, limits, versions, store, rules, clock });
  const inner = innerServer(secret, new KvBinding(store, rules, limits.kv), {
    "/clock": ({ advance = 0, frozen }) => {
      clock.advance(advance);
      if (frozen !== undefined) clock.freeze(frozen);
      versions.note(CLOCK_FACT, String(clock.offset));
      return { now: clock.now() / 1000 };
    },
    "/rest": () => face.counts(),
  });
  const [innerPort, restPort] = await Promise.all([
    listening(inner, 0),
    listening(face.server, rest.port),
  ]);

  const require = createRequire(join(gateway.modules, "package.json"));
  const tools = { miniflare: require("miniflare"), esbuild: require("esbuild") };
  const running = await startGateway(tools, gateway.root, {
    ports: gateway.ports,
    keys: gateway.keys,
    namespaceOf: namespaces(versions, kv.namespace),
    operations: limits.worker.max_operations,
    kv: { address: `127.0.0.1:${innerPort}`, secret },
    persist,
  });
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    await running.dispose();
    versions.close();
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  const told = { inner: innerPort, rest: restPort, gateway: running.urls };
  process.stdout.write(`READY ${JSON.stringify(told)}\n`);
  return stop;
}

/** The namespace of a binding: the first `id` of a configuration is ours, others are their own. */
function namespaces(versions, ours) {
  let first;
  return ({ binding, id }) => {
    first ??= id;
    if (id === first) return ours;
    versions.createNamespace(id, binding);
    return id;
  };
}

function listening(server, port) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server.address().port));
  });
}

const lines = createInterface({ input: process.stdin });
/** @type {() => unknown} */
let stop = () => process.exit(0);
lines.once("line", (line) => {
  main(JSON.parse(line)).then(
    (stopper) => (stop = stopper),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
lines.once("close", () => stop());
