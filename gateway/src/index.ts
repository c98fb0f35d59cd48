/** The gateway: Cloudflare's bindings for cm_platform, over one signed endpoint. */

import { type Authentic, authenticate } from "./auth.ts";
import { batch } from "./batch.ts";
import type { Env } from "./env.ts";
import { Refusal, unauthenticated } from "./errors.ts";
import { health } from "./health.ts";
import { PROTOCOL, VERSION } from "./version.ts";

export { Nonces } from "./nonces.ts";
export { Values } from "./values.ts";

export default {
  async fetch(request, env) {
    const response = await answer(request, env);
    response.headers.set("cm-gateway-version", VERSION);
    return response;
  },
} satisfies ExportedHandler<Env>;

async function answer(request: Request, env: Env): Promise<Response> {
  try {
    return await route(await authenticate(request, env), env);
  } catch (error) {
    if (error instanceof Refusal) {
      return error.response();
    }
    console.error("a request failed:", error instanceof Error ? error.message : typeof error);
    return new Refusal(500, "internal", "the gateway failed; its logs say why").response();
  }
}

function route(
  { method, path, body, partition }: Authentic,
  env: Env,
): Promise<Response> | Response {
  switch (`${method} ${path}`) {
    case `GET /v${PROTOCOL}/health`:
      return health(env);
    case `POST /v${PROTOCOL}/batch`:
      if (partition === "") {
        throw unauthenticated();
      }
      return batch(body, env, partition);
    default:
      throw new Refusal(
        404,
        "not_found",
        `this gateway serves /v${PROTOCOL}/batch and /v${PROTOCOL}/health`,
      );
  }
}
