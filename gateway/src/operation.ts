/** What a product's file is made of: operations, each in two steps. */

import type { Arguments } from "./arguments.ts";
import type { Env } from "./env.ts";
import type { Failure } from "./errors.ts";
import type { Share } from "./reply.ts";

/** Where an operation takes place. */
export interface Place {
  readonly env: Env;
  /** The name of the binding. */
  readonly binding: string;
  /** From the signed part of the request, and from nowhere else. */
  readonly partition: string;
}

/** An operation whose arguments are in order. */
export interface Call {
  /** What it touches: among calls of one key the order of the batch is kept. */
  readonly keys: readonly string[];
  /** How many requests it makes of Cloudflare's products. */
  readonly requests: number;
  /** Does it. The fields of its outcome; values go into its share of the reply. */
  run(share: Share): Promise<Readonly<Record<string, unknown>>>;
}

/** Checks the arguments, before anything of the batch is carried out. */
export type Operation = (args: Arguments, place: Place) => Call;

export interface Product {
  /** What its binding is called where an operation does not name one. */
  readonly binding: string;
  readonly operations: ReadonlyMap<string, Operation>;
  /** Classifies what the product's binding threw; undefined for what is not the product's. */
  translate(error: unknown): Failure | undefined;
}
