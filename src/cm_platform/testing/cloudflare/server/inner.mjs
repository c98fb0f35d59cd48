// The server that only the Worker and the test speak to: the KV bindings, and the controls (clock,
// counts). Every request must have the secret that both were given.

import { createServer } from "node:http";
import { timingSafeEqual } from "node:crypto";

import { readBody } from "./body.mjs";
import { NAMESPACE_HEADER } from "./kv/binding.mjs";

const MOST_CONTROL = 65_536;
const KEEP_ALIVE = 75_000;

/**
 * @param {string} secret
 * @param {import("./kv/binding.mjs").KvBinding} binding
 * @param {Record<string, (body: any) => any>} controls by path
 */
export function innerServer(secret, binding, controls) {
  return createServer({ keepAliveTimeout: KEEP_ALIVE }, async (request, response) => {
    try {
      if (!same(request.headers["cm-local-secret"], secret)) {
        response.writeHead(403).end();
      } else if (request.headers[NAMESPACE_HEADER] !== undefined) {
        await binding.answer(request, response);
      } else {
        const control = controls[request.url];
        if (control === undefined) {
          response.writeHead(404).end();
          return;
        }
        const body = await readBody(request, MOST_CONTROL);
        const answer = control(body.length === 0 ? {} : JSON.parse(body.toString()));
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(answer ?? {}));
      }
    } catch (error) {
      console.error(error);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    }
  });
}

function same(given, secret) {
  const left = Buffer.from(String(given ?? ""));
  const right = Buffer.from(secret);
  return left.length === right.length && timingSafeEqual(left, right);
}
