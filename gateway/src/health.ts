/** What this gateway is and has, for those who may sign. */

import { bindings, type Env } from "./env.ts";
import { PROTOCOL, VERSION } from "./version.ts";

export function health(env: Env): Response {
  return Response.json({
    version: VERSION,
    protocol: PROTOCOL,
    bindings: bindings(env),
    time: Date.now(),
  });
}
