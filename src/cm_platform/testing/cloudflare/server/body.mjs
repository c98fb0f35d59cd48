// Reads a request's body, up to a bound.

import { Refusal } from "./refusal.mjs";

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {number} most bytes
 * @param {() => Refusal} refusal of a longer one
 * @returns {Promise<Buffer>}
 */
export async function readBody(request, most, refusal = tooLarge) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.byteLength;
    // Read on to the end: a client that is still sending would not see the answer.
    if (length <= most) chunks.push(chunk);
  }
  if (length > most) throw refusal();
  return Buffer.concat(chunks);
}

function tooLarge() {
  return new Refusal(413, 10001, "Request Entity Too Large");
}
