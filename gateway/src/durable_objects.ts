/** Small values in Durable Objects, one object for each key of each partition. */

import type { Arguments } from "./arguments.ts";
import { begins } from "./counter.ts";
import { valuesNamespace } from "./env.ts";
import { Failure, invalid, isLost } from "./errors.ts";
import { VALUES as LIMITS } from "./limits.ts";
import type { Call, Operation, Place, Product } from "./operation.ts";
import type { Values } from "./values.ts";

export const durableObjects: Product = {
  binding: "VALUES",
  operations: new Map<string, Operation>([
    ["do.get", get],
    ["do.set", set],
    ["do.delete", remove],
    ["do.compare_and_set", compareAndSet],
    ["do.expire", expire],
    ["do.increment", increment],
  ]),
  translate,
};

type Stub = DurableObjectStub<Values>;

function get(args: Arguments, place: Place): Call {
  return onObject(args, place, async (object, share) => {
    const found = await object.get();
    if (found === null) {
      return { value: null, expires_in: null };
    }
    const { value, expiresIn } = found;
    if (value instanceof ReadableStream) {
      return { value: share.add(await share.read(value)), expires_in: expiresIn };
    }
    share.take(value.byteLength);
    return { value: share.add([value]), expires_in: expiresIn };
  });
}

function set(args: Arguments, place: Place): Call {
  const change = {
    value: own(args.bytes("value", LIMITS.maxValue)),
    onlyIf: args.choice("only_if", ["absent", "present"]),
    ttl: ttl(args),
    token: token(args),
  };
  return onObject(args, place, async (object) => ({ stored: await object.set(change) }));
}

function remove(args: Arguments, place: Place): Call {
  return onObject(args, place, async (object) => ({ existed: await object.delete() }));
}

function compareAndSet(args: Arguments, place: Place): Call {
  const expected = args.bytesOrNull("expected", LIMITS.maxValue);
  const value = args.bytesOrNull("value", LIMITS.maxValue);
  const change = {
    expected: expected && own(expected),
    value: value && own(value),
    ttl: ttl(args),
    token: token(args),
  };
  return onObject(args, place, async (object) => ({ stored: await object.compareAndSet(change) }));
}

function expire(args: Arguments, place: Place): Call {
  const seconds = ttl(args);
  return onObject(args, place, async (object) => ({ existed: await object.expire(seconds) }));
}

function increment(args: Arguments, place: Place): Call {
  const amount = args.int64("amount");
  const initial = args.bytesOrNull("initial", LIMITS.maxValue);
  if (initial !== null && !begins(initial, amount)) {
    throw invalid("initial must be a counter's entry with the amount in it");
  }
  const change = {
    amount,
    initial: initial && own(initial),
    ttl: ttl(args),
    token: token(args),
  };
  return onObject(args, place, async (object) => {
    const outcome = await object.increment(change);
    if ("refused" in outcome) {
      throw new Failure(outcome.refused.code, outcome.refused.message);
    }
    const { value, stamp } = outcome;
    return { value: value.toString(), stamp: stamp === null ? null : stamp.toString() };
  });
}

type Run = Call["run"];

function onObject(
  args: Arguments,
  place: Place,
  run: (object: Stub, share: Parameters<Run>[0]) => ReturnType<Run>,
): Call {
  const namespace = valuesNamespace(place.env, place.binding);
  const key = args.key("key", place.partition, LIMITS.maxKey);
  // The length keeps partition and key apart: "a" + "bc" is another object than "ab" + "c".
  const name = `${place.partition.length}:${key}`;
  return { keys: [key], requests: 1, run: (share) => run(namespace.getByName(name), share) };
}

function ttl(args: Arguments): number | undefined {
  return args.seconds("ttl", LIMITS.maxTtl);
}

function token(args: Arguments): string | undefined {
  const value = args.optionalText("token");
  if (value !== undefined && (value === "" || value.length > LIMITS.maxToken)) {
    throw invalid(`token must have 1 to ${LIMITS.maxToken} characters`);
  }
  return value;
}

/** A copy: of a view the whole batch behind it would be sent along. */
function own(view: Uint8Array): Uint8Array {
  return view.slice();
}

/** What the runtime throws says so by its properties; an exception within the object does not. */
function translate(error: unknown): Failure | undefined {
  if ((error as { overloaded?: unknown } | null | undefined)?.overloaded === true) {
    // Refused before the object saw it.
    return new Failure(
      "rate_limited",
      "the key's Durable Object has more requests than it serves",
      {
        retryAfter: 1,
        notSent: true,
      },
    );
  }
  return isLost(error)
    ? new Failure("unavailable", "the key's Durable Object could not be reached")
    : undefined;
}
