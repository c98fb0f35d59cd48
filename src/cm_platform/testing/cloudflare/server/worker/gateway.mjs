// The gateway in workerd, once per location: the same code and the same Durable Objects, each with
// an address and a view of KV of its own.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./bundle.mjs";
import { parseJsonc } from "./jsonc.mjs";
import { PLUGIN } from "./plugin.mjs";

const PLUGIN_FILE = join(dirname(fileURLToPath(import.meta.url)), "plugin.mjs");

/**
 * @param {{miniflare: typeof import("miniflare"), esbuild: typeof import("esbuild")}} tools
 * @param {string} root the folder with wrangler.jsonc
 * @param {{
 *   ports: Record<string, number>, keys: Record<string, string>,
 *   namespaceOf: (kv: {binding: string, id: string}) => string, operations: number,
 *   kv: {address: string, secret: string}, persist: string | null,
 * }} settings ports by location, 0: a free one; keys: secrets by key id; kv: where our KV answers
 * @returns {Promise<{urls: Record<string, string>, dispose: () => Promise<void>}>}
 */
export async function startGateway({ miniflare, esbuild }, root, settings) {
  const configuration = parseJsonc(await readFile(join(root, "wrangler.jsonc"), "utf8"));
  const kv = (configuration.kv_namespaces ?? []).map((namespace) => ({
    name: namespace.binding,
    namespace: settings.namespaceOf(namespace),
  }));
  const objects = configuration.durable_objects?.bindings ?? [];
  const script = await bundle(
    esbuild,
    join(root, configuration.main),
    { kv: kv.map(({ name }) => name), durableObjects: objects.map(({ name }) => name) },
    settings.operations,
  );
  const locations = Object.keys(settings.ports);
  const worker = (location) => ({
    name: location,
    modules: [{ type: "ESModule", path: "gateway.mjs", contents: script }],
    modulesRoot: "/",
    compatibilityDate: configuration.compatibility_date,
    compatibilityFlags: configuration.compatibility_flags ?? [],
    bindings: { ...configuration.vars, GATEWAY_KEYS: JSON.stringify(settings.keys) },
    durableObjects: Object.fromEntries(
      objects.map(({ name, class_name }) => [
        name,
        // One object, wherever it is called from: those of the first location serve all.
        { className: class_name, useSQLite: true, scriptName: locations[0] },
      ]),
    ),
    unsafeBindings: kv.map(({ name, namespace }) => ({
      name,
      type: "kv",
      plugin: { package: PLUGIN_FILE, name: PLUGIN },
      options: {
        location,
        namespace,
        address: settings.kv.address,
        secret: settings.kv.secret,
      },
    })),
    unsafeDirectSockets: [{ host: "127.0.0.1", port: settings.ports[location] }],
  });
  const running = new miniflare.Miniflare({
    host: "127.0.0.1",
    port: 0,
    // Else it asks the network for a location.
    cf: false,
    log: new miniflare.Log(miniflare.LogLevel.WARN),
    defaultPersistRoot: settings.persist ?? undefined,
    durableObjectsPersist: settings.persist === null ? false : join(settings.persist, "objects"),
    workers: locations.map(worker),
  });
  await running.ready;
  const urls = {};
  for (const location of locations) {
    urls[location] = (await running.unsafeGetDirectURL(location)).origin;
  }
  return { urls, dispose: () => running.dispose() };
}
