// Finds the route of a path such as /accounts/:account/storage/kv/namespaces/:namespace/keys.

/**
 * @typedef {object} Route
 * @property {string} method
 * @property {string} path segments; those that begin with a colon are parameters
 * @property {boolean} [uncounted] whether it does not count against the token's cap
 * @property {(call: Call) => unknown} answer
 *
 * @typedef {object} Call
 * @property {Record<string, string>} parameters decoded
 * @property {URLSearchParams} query
 * @property {import("node:http").IncomingMessage} request
 */

export class Router {
  #routes;

  /** @param {Route[]} routes of all products; the first that fits is taken */
  constructor(routes) {
    this.#routes = routes.map((route) => ({ ...route, segments: route.path.split("/") }));
  }

  /**
   * @param {string} path as it was sent, still encoded: an encoded slash belongs to its segment
   * @returns {{route: Route, parameters: Record<string, string>} | null}
   */
  find(method, path) {
    const given = path.split("/");
    for (const route of this.#routes) {
      const parameters = route.method === method ? fit(route.segments, given) : null;
      if (parameters !== null) return { route, parameters };
    }
    return null;
  }
}

function fit(wanted, given) {
  if (wanted.length !== given.length) return null;
  const parameters = {};
  for (const [index, segment] of wanted.entries()) {
    if (segment.startsWith(":")) {
      try {
        parameters[segment.slice(1)] = decodeURIComponent(given[index]);
      } catch {
        return null;
      }
    } else if (segment !== given[index]) {
      return null;
    }
  }
  return parameters;
}
