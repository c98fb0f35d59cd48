// Runs in workerd, around the gateway: gives each invocation bindings that count its operations,
// and refuse more than production allows to one invocation.

/** What production says, in these words. */
const TOO_MANY = "Too many subrequests by single Worker invocation.";

/**
 * @param {{fetch: Function}} worker
 * @param {{kv: string[], durableObjects: string[]}} bindings names
 * @param {number} most operations in one invocation
 */
export function counting(worker, bindings, most) {
  return {
    ...worker,
    fetch(request, env, context) {
      let operations = 0;
      const count = () => {
        operations += 1;
        if (operations > most) throw new Error(TOO_MANY);
      };
      const counted = { ...env };
      for (const name of bindings.kv) counted[name] = calls(env[name], count);
      for (const name of bindings.durableObjects) {
        counted[name] = namespace(env[name], count);
      }
      return worker.fetch(request, counted, context);
    },
  };
}

/** An object whose methods count when they are called. */
function calls(target, count) {
  return new Proxy(target, {
    get(object, name) {
      const member = object[name];
      if (typeof member !== "function") return member;
      return async (...args) => {
        count();
        return object[name](...args);
      };
    },
  });
}

/** A Durable Object namespace whose stubs count; to make a stub or an id costs nothing. */
function namespace(target, count) {
  const stubs = new Set(["get", "getByName"]);
  return new Proxy(target, {
    get(object, name) {
      const member = object[name];
      if (typeof member !== "function") return member;
      return (...args) => {
        const made = object[name](...args);
        return stubs.has(String(name)) ? calls(made, count) : made;
      };
    },
  });
}
