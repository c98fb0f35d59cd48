import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  async add() {
    const value = ((await this.ctx.storage.get("value")) ?? 0) + 1;
    await this.ctx.storage.put("value", value);
    return value;
  }
}

export default {
  /** POST {"calls": [["get", "key"], ["add", "name"], ...]}: what each returned, or its error. */
  async fetch(request, env) {
    const { calls } = await request.json();
    const outcomes = [];
    for (const [method, ...args] of calls) {
      try {
        const result =
          method === "add"
            ? await env.COUNTERS.getByName(args[0]).add()
            : await env.KV[method](...args);
        const plain = result instanceof Map ? Object.fromEntries(result) : result;
        outcomes.push({ result: plain ?? null });
      } catch (error) {
        outcomes.push({ error: error.message });
      }
    }
    return Response.json(outcomes);
  },
};
