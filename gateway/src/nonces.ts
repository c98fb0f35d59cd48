/** The nonces of the requests that were accepted: none is accepted twice. */

import { DurableObject } from "cloudflare:workers";

import type { Env } from "./env.ts";

/** How far a request's clock and ours may differ, in milliseconds, either way. */
export const SKEW = 60_000;

/** A request is acceptable for twice the skew; the rest is for clocks of our own that differ. */
const RETENTION = 2 * SKEW + 60_000;

/** Characters of the nonce that choose its object: 64 of them, so that none is a bottleneck. */
const SHARD = 1;

/** Whether the nonce is new; from now on it is not. */
export function remember(env: Env, nonce: string): Promise<boolean> {
  return env.NONCES.getByName(nonce.slice(0, SHARD)).remember(nonce);
}

export class Nonces extends DurableObject<Env> {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(
      `CREATE TABLE IF NOT EXISTS nonces (nonce TEXT PRIMARY KEY, until INTEGER NOT NULL)
       WITHOUT ROWID`,
    );
  }

  async remember(nonce: string): Promise<boolean> {
    const until = Date.now() + RETENTION;
    const added = this.#sql
      .exec("INSERT INTO nonces VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1", nonce, until)
      .toArray();
    if ((await this.ctx.storage.getAlarm()) === null) {
      await this.ctx.storage.setAlarm(until);
    }
    return added.length === 1;
  }

  /** Forgets what can no longer be replayed. */
  override async alarm(): Promise<void> {
    const now = Date.now();
    this.#sql.exec("DELETE FROM nonces WHERE until <= ?", now);
    const left = this.#sql.exec("SELECT 1 FROM nonces LIMIT 1").toArray();
    if (left.length > 0) {
      await this.ctx.storage.setAlarm(now + RETENTION);
    }
  }
}
