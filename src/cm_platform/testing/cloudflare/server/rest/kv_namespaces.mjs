// KV's namespaces over REST: list, make, look at, rename, remove.

import { randomBytes } from "node:crypto";

import { INVALID, TITLE_TAKEN } from "../kv/codes.mjs";
import { Refusal } from "../refusal.mjs";
import { Page } from "./envelope.mjs";
import { json } from "./json_body.mjs";

const MOST_BODY = 65_536;

/**
 * @param {string} root the path of them all
 * @param {(method: string, path: string, answer: Function) => import("./router.mjs").Route} within
 *   a route of one namespace
 * @param {import("../kv/versions.mjs").Versions} versions
 * @param {Record<string, number>} bounds the table cloudflare.kv
 * @returns {import("./router.mjs").Route[]}
 */
export function namespaceRoutes(root, within, versions, bounds) {
  return [
    { method: "GET", path: root, answer: listNamespaces },
    { method: "POST", path: root, answer: createNamespace },
    within("GET", "", (call, at) => described(versions.namespace(at.namespace))),
    within("PUT", "", renameNamespace),
    within("DELETE", "", (call, at) => versions.dropNamespace(at.namespace)),
  ];

  function listNamespaces({ query }) {
    const page = Number(query.get("page") ?? 1);
    const size = Number(query.get("per_page") ?? 20);
    const all = versions.namespaces();
    const shown = all.slice((page - 1) * size, page * size).map(described);
    const info = { page, per_page: size, count: shown.length, total_count: all.length };
    return new Page(shown, info);
  }

  async function createNamespace({ request }) {
    const title = await titleOf(request, bounds.max_title);
    const id = randomBytes(16).toString("hex");
    if (!versions.createNamespace(id, title)) throw taken();
    return described({ id, title });
  }

  async function renameNamespace({ request }, at) {
    const title = await titleOf(request, bounds.max_title);
    if (!versions.renameNamespace(at.namespace, title)) throw taken();
    return described({ id: at.namespace, title });
  }
}

function described({ id, title }) {
  return { id, title, supports_url_encoding: true };
}

async function titleOf(request, most) {
  const { title } = (await json(request, MOST_BODY)) ?? {};
  if (typeof title !== "string" || title === "" || title.length > most) {
    throw new Refusal(400, INVALID, `a title has 1 to ${most} characters`);
  }
  return title;
}

function taken() {
  return new Refusal(
    400,
    TITLE_TAKEN,
    "a namespace with this account ID and title already exists",
  );
}
