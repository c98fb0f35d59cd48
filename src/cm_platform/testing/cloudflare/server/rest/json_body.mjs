// A request's body as JSON.

import { readBody } from "../body.mjs";
import { INVALID } from "../kv/codes.mjs";
import { Refusal } from "../refusal.mjs";

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {number} most bytes
 */
export async function json(request, most) {
  const body = await readBody(request, most);
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new Refusal(400, INVALID, "could not parse the body as JSON");
  }
}

/**
 * A list of at most so many.
 * @param {import("node:http").IncomingMessage} request
 * @param {number} most items
 * @param {number} size bytes
 * @returns {Promise<any[]>}
 */
export async function jsonArray(request, most, size) {
  const items = await json(request, size);
  if (!Array.isArray(items)) throw new Refusal(400, INVALID, "the body must be a JSON array");
  if (items.length > most) {
    throw new Refusal(400, INVALID, `${items.length} items; one request may have ${most}`);
  }
  return items;
}
