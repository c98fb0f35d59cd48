// Bundles the Worker into one file, for workerd without wrangler: `node build.mjs [OUTFILE]`.

import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await build({
  entryPoints: [here("src/index.ts")],
  outfile: process.argv[2] ?? here("dist/worker.js"),
  bundle: true,
  format: "esm",
  target: "es2024",
  external: ["cloudflare:*"],
});
