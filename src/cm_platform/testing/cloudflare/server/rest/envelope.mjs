// Cloudflare's envelope: {success, errors, messages, result} around every JSON answer.

/** An answer that is not JSON: a value's own bytes. */
export class Raw {
  /**
   * @param {Uint8Array} body
   * @param {Record<string, string>} headers
   */
  constructor(body, headers) {
    this.body = body;
    this.headers = headers;
  }
}

/** A result with what the envelope says besides. */
export class Page {
  /**
   * @param {unknown[]} result
   * @param {Record<string, unknown>} info
   */
  constructor(result, info) {
    this.result = result;
    this.info = info;
  }
}

/**
 * @param {import("node:http").ServerResponse} response
 * @param {unknown} answer what a route returned
 */
export function sendAnswer(response, answer) {
  if (answer instanceof Raw) {
    response.writeHead(200, answer.headers);
    response.end(answer.body);
    return;
  }
  const page = answer instanceof Page;
  sendJson(response, 200, {
    success: true,
    errors: [],
    messages: [],
    result: page ? answer.result : (answer ?? null),
    ...(page ? { result_info: answer.info } : {}),
  });
}

/**
 * @param {import("node:http").ServerResponse} response
 * @param {import("../refusal.mjs").Refusal} refusal
 */
export function sendRefusal(response, refusal) {
  for (const [name, value] of Object.entries(refusal.headers)) response.setHeader(name, value);
  sendJson(response, refusal.status, {
    success: false,
    errors: [{ code: refusal.code, message: refusal.message }],
    messages: [],
    result: null,
  });
}

function sendJson(response, status, document) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(document));
}
