// The REST face: authentication, the token's cap, then the product's route.

import { timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

import { Refusal } from "../refusal.mjs";
import { sendAnswer, sendRefusal } from "./envelope.mjs";
import { kvRoutes } from "./kv.mjs";
import { Router } from "./router.mjs";
import { TokenCap } from "./token_cap.mjs";

const ROOT = "/client/v4";
// Longer than a client's own: else one end closes while the other sends.
const KEEP_ALIVE = 75_000;

/**
 * @param {import("./kv.mjs").World & {account: {id: string, token: string,
 *   cap: {requests: number, period: number, block: number}}}} world
 * @returns {{server: import("node:http").Server, counts: () => Record<string, number>}}
 */
export function restServer({ account, ...world }) {
  const router = new Router([...kvRoutes(world)]);
  const cap = new TokenCap(world.clock, account.cap);
  const counts = { requests: 0, capped: 0 };

  async function answer(request, response) {
    const url = request.url;
    const [path, search = ""] = url.split(/\?(.*)/s);
    authenticate(request.headers.authorization, account.token);
    const found = path.startsWith(`${ROOT}/`)
      ? router.find(request.method, path.slice(ROOT.length))
      : null;
    if (!found?.route.uncounted) {
      counts.requests += 1;
      take(response);
    }
    if (found === null) {
      throw new Refusal(
        404,
        7003,
        `Could not route to ${path}, perhaps your object identifier is invalid?`,
      );
    }
    const { route, parameters } = found;
    // A token reaches its own account only.
    if (parameters.account !== account.id) throw new Refusal(403, 10000, "Authentication error");
    const query = new URLSearchParams(search);
    sendAnswer(response, await route.answer({ parameters, query, request }));
  }

  function take(response) {
    try {
      for (const [name, value] of Object.entries(cap.take())) response.setHeader(name, value);
    } catch (refusal) {
      counts.capped += 1;
      throw refusal;
    }
  }

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE }, async (request, response) => {
    try {
      await answer(request, response);
    } catch (error) {
      // What the client still sends must be taken, or it never reads the answer.
      request.resume();
      if (error instanceof Refusal) {
        sendRefusal(response, error);
      } else {
        console.error(error);
        sendRefusal(response, new Refusal(500, 10002, "internal error"));
      }
    }
  });
  return { server, counts: () => ({ ...counts }) };
}

function authenticate(header, token) {
  if (header === undefined) {
    throw new Refusal(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers");
  }
  const given = Buffer.from(header);
  const wanted = Buffer.from(`Bearer ${token}`);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
    throw new Refusal(403, 10000, "Authentication error");
  }
}
