/** Many operations in one request: checked first, then side by side, an outcome for each. */

import { Arguments } from "./arguments.ts";
import { utf8 } from "./bytes.ts";
import { durableObjects } from "./durable_objects.ts";
import type { Env } from "./env.ts";
import { Failure, Refusal, shown } from "./errors.ts";
import { decodeFrame, encodeFrame, MEDIA_TYPE } from "./frame.ts";
import { kv } from "./kv.ts";
import { MAX_OPERATIONS, MAX_REQUESTS } from "./limits.ts";
import type { Call, Operation, Product } from "./operation.ts";
import { failed, type Outcome, succeeded } from "./outcome.ts";
import { Reply } from "./reply.ts";

/** By the name of the operation, all that is known of it. */
const OPERATIONS = new Map<string, { product: Product; operation: Operation }>();
for (const product of [kv, durableObjects]) {
  for (const [name, operation] of product.operations) {
    OPERATIONS.set(name, { product, operation });
  }
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * An operation that is ready to run.
 *
 * lanes: what it must not overtake another one on. last: it waits for all before it.
 */
interface Ready {
  product: Product;
  call: Call;
  lanes: readonly string[];
  last: boolean;
}

export async function batch(body: Uint8Array, env: Env, partition: string): Promise<Response> {
  const { json, values } = decodeFrame(body);
  const ready = operationsOf(json).map((fields) => prepared(fields, values, env, partition));
  const requests = ready.reduce(
    (sum, one) => sum + (one instanceof Failure ? 0 : one.call.requests),
    0,
  );
  if (requests > MAX_REQUESTS) {
    throw tooMuch(`a batch may reach ${MAX_REQUESTS} keys; this one reaches ${requests}`);
  }
  const reply = new Reply();
  const outcomes = await carriedOut(ready, reply);
  const frame = encodeFrame(utf8(JSON.stringify({ outcomes })), reply.chunks);
  return new Response(frame, { headers: { "content-type": MEDIA_TYPE } });
}

function operationsOf(json: unknown): Fields[] {
  const operations = isRecord(json) ? json["operations"] : undefined;
  if (!Array.isArray(operations) || !operations.every(isRecord)) {
    throw new Refusal(400, "invalid_argument", "the batch has no list of operations");
  }
  if (operations.length > MAX_OPERATIONS) {
    throw tooMuch(
      `a batch may have ${MAX_OPERATIONS} operations; this one has ${operations.length}`,
    );
  }
  return operations;
}

function prepared(
  fields: Fields,
  values: Uint8Array,
  env: Env,
  partition: string,
): Ready | Failure {
  const args = new Arguments(fields, values);
  try {
    const name = args.text("op");
    const known = OPERATIONS.get(name);
    if (known === undefined) {
      throw new Failure("unsupported", `this gateway has no operation ${shown(name)}`);
    }
    const { product, operation } = known;
    const binding = args.optionalText("binding") ?? product.binding;
    const call = operation(args, { env, binding, partition });
    const lanes = call.keys.map((key) => `${product.binding}\0${binding}\0${key}`);
    return { product, call, lanes, last: args.flag("after") };
  } catch (error) {
    return failureOf(error);
  }
}

/** Runs all at once, except that calls on one lane keep their order, and some come after all. */
function carriedOut(ready: readonly (Ready | Failure)[], reply: Reply): Promise<Outcome[]> {
  const last = new Map<string, Promise<Outcome>>();
  const all: Promise<Outcome>[] = [];
  return Promise.all(
    ready.map((one) => {
      if (one instanceof Failure) {
        return failed(one);
      }
      const before = one.last ? [...all] : one.lanes.flatMap((lane) => last.get(lane) ?? []);
      const outcome = Promise.all(before).then(() => outcomeOf(one, reply));
      all.push(outcome);
      for (const lane of one.lanes) {
        last.set(lane, outcome);
      }
      return outcome;
    }),
  );
}

async function outcomeOf({ product, call }: Ready, reply: Reply): Promise<Outcome> {
  try {
    return succeeded(await call.run(reply.share()));
  } catch (error) {
    return failed(
      error instanceof Failure ? error : (product.translate(error) ?? failureOf(error)),
    );
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof Failure) {
    return error;
  }
  // Its message might quote a key.
  console.error("an operation failed:", error instanceof Error ? error.name : typeof error);
  return new Failure("internal", "the gateway failed at this operation");
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function tooMuch(message: string): Refusal {
  return new Refusal(413, "invalid_argument", message);
}
