/** The Durable Object of one small value: strongly consistent, its time kept to the millisecond. */

import { DurableObject } from "cloudflare:workers";

import { addToEntry, addToText, type Counted } from "./counter.ts";
import type { Env } from "./env.ts";
import { type Code, Failure } from "./errors.ts";

/** Bytes from which a value leaves its object as a stream, which takes no memory beside it. */
const STREAMED = 64 * 1024;

/** Outcomes that an object remembers by token, and for how many milliseconds. */
const MAX_REMEMBERED = 32;
const REMEMBERED = 600_000;

const ENTRY = "entry";
const OUTCOMES = "outcomes";

interface Entry {
  value: Uint8Array;
  /** Unix milliseconds; null: for ever. */
  expiresAt: number | null;
}

interface Remembered {
  token: string;
  outcome: unknown;
  /** Unix milliseconds. */
  until: number;
}

export interface Found {
  value: Uint8Array | ReadableStream<Uint8Array>;
  /** Seconds that are left; null: for ever. */
  expiresIn: number | null;
}

/** What changes take in common. ttl: seconds. token: makes a repetition answer as the first did. */
interface Change {
  ttl: number | undefined;
  token: string | undefined;
}

export interface SetChange extends Change {
  value: Uint8Array;
  onlyIf: "absent" | "present" | undefined;
}

export interface SwapChange extends Change {
  /** null: absent. */
  expected: Uint8Array | null;
  /** null: none from now on. */
  value: Uint8Array | null;
}

export interface AddChange extends Change {
  amount: bigint;
  /** Of the entry to keep; undefined: the value is bare text. */
  initial: Uint8Array | null;
}

/** What does not survive the way between objects as an exception. */
export interface Refused {
  refused: { code: Code; message: string };
}

export class Values extends DurableObject<Env> {
  get(): Found | null {
    const now = Date.now();
    const entry = this.#entry(now);
    if (entry === null) {
      return null;
    }
    const { value, expiresAt } = entry;
    return {
      value: value.byteLength > STREAMED ? streamed(value) : value,
      expiresIn: expiresAt === null ? null : (expiresAt - now) / 1000,
    };
  }

  set({ value, ttl, onlyIf, token }: SetChange): Promise<boolean> {
    return this.#once(token, (now) => {
      const present = this.#entry(now) !== null;
      if (onlyIf !== undefined && present !== (onlyIf === "present")) {
        return false;
      }
      this.#keep({ value, expiresAt: after(now, ttl) });
      return true;
    });
  }

  delete(): Promise<boolean> {
    return this.#once(undefined, (now) => {
      const existed = this.#entry(now) !== null;
      this.#forget();
      return existed;
    });
  }

  compareAndSet({ expected, value, ttl, token }: SwapChange): Promise<boolean> {
    return this.#once(token, (now) => {
      if (!same(this.#entry(now)?.value ?? null, expected)) {
        return false;
      }
      if (value === null) {
        this.#forget();
      } else {
        this.#keep({ value, expiresAt: after(now, ttl) });
      }
      return true;
    });
  }

  expire(ttl: number | undefined): Promise<boolean> {
    return this.#once(undefined, (now) => {
      const entry = this.#entry(now);
      if (entry === null) {
        return false;
      }
      this.#keep({ value: entry.value, expiresAt: after(now, ttl) });
      return true;
    });
  }

  async increment(change: AddChange): Promise<Counted | Refused> {
    try {
      return await this.#once(change.token, (now) => this.#add(change, now));
    } catch (error) {
      if (error instanceof Failure) {
        return { refused: { code: error.code, message: error.message } };
      }
      throw error;
    }
  }

  override async alarm(): Promise<void> {
    await this.#tidy(Date.now());
  }

  #add({ amount, initial, ttl }: AddChange, now: number): Counted {
    const entry = this.#entry(now);
    const current = entry?.value ?? null;
    const begun = after(now, ttl);
    const counted =
      initial === null ? addToText(current, amount) : addToEntry(current, amount, initial);
    this.#keep({
      value: counted.kept,
      expiresAt: counted.created ? begun : (entry?.expiresAt ?? null),
    });
    return counted;
  }

  /** Does it, unless the token was seen; the outcome and the change are kept together or not. */
  async #once<T>(token: string | undefined, change: (now: number) => T): Promise<T> {
    const now = Date.now();
    const remembered = token === undefined ? [] : this.#remembered(now);
    const first = remembered.find((one) => one.token === token);
    if (first !== undefined) {
      return first.outcome as T;
    }
    const outcome = change(now);
    if (token !== undefined) {
      const all = [...remembered, { token, outcome, until: now + REMEMBERED }];
      this.ctx.storage.kv.put(OUTCOMES, all.slice(-MAX_REMEMBERED));
    }
    await this.#tidy(now);
    return outcome;
  }

  #entry(now: number): Entry | null {
    const entry = this.ctx.storage.kv.get<Entry>(ENTRY);
    if (entry === undefined || (entry.expiresAt !== null && entry.expiresAt <= now)) {
      return null;
    }
    return entry;
  }

  #remembered(now: number): Remembered[] {
    const all = this.ctx.storage.kv.get<Remembered[]>(OUTCOMES) ?? [];
    return all.filter(({ until }) => until > now);
  }

  #keep(entry: Entry): void {
    this.ctx.storage.kv.put(ENTRY, entry);
  }

  #forget(): void {
    this.ctx.storage.kv.delete(ENTRY);
  }

  /** Sees to it that the object is woken when something ends, and is empty when all has ended. */
  async #tidy(now: number): Promise<void> {
    const { storage } = this.ctx;
    const entry = this.#entry(now);
    if (entry === null) {
      this.#forget();
    }
    const ends = entry === null ? this.#remembered(now).at(-1)?.until : entry.expiresAt;
    if (ends === undefined) {
      // Not even tables are left: an object that keeps nothing is not billed for storage.
      await storage.deleteAll();
    } else if (ends !== null) {
      const alarm = await storage.getAlarm();
      if (alarm === null || alarm > ends) {
        await storage.setAlarm(ends);
      }
    }
  }
}

function after(now: number, ttl: number | undefined): number | null {
  return ttl === undefined ? null : Math.ceil(now + ttl * 1000);
}

function same(one: Uint8Array | null, other: Uint8Array | null): boolean {
  if (one === null || other === null) {
    return one === other;
  }
  return one.byteLength === other.byteLength && one.every((byte, index) => byte === other[index]);
}

function streamed(value: Uint8Array): ReadableStream<Uint8Array> {
  return new Response(value).body!;
}
