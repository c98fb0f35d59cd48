// The shipped gateway as one module, its own code unchanged, with `invocation.mjs` around it.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));

/**
 * @param {typeof import("esbuild")} esbuild
 * @param {string} main the gateway's entry file
 * @param {{kv: string[], durableObjects: string[]}} bindings names
 * @param {number} most operations in one invocation
 * @returns {Promise<string>} an ES module
 */
export async function bundle(esbuild, main, bindings, most) {
  const gateway = JSON.stringify(main);
  const around = JSON.stringify(join(HERE, "invocation.mjs"));
  const result = await esbuild.build({
    stdin: {
      contents: `
        import worker from ${gateway};
        import { counting } from ${around};
        export * from ${gateway};
        export default counting(worker, ${JSON.stringify(bindings)}, ${most});
      `,
      resolveDir: HERE,
      sourcefile: "local.mjs",
    },
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
  });
  // Else its process stays as long as ours.
  await esbuild.stop();
  return result.outputFiles[0].text;
}
