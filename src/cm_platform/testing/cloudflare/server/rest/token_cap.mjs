// The cap of a token: so many requests in any period, then nothing for a whole one. It holds for
// every product together.

import { Refusal } from "../refusal.mjs";

const CODE = 971;
const MESSAGE = "Please wait and consider throttling your request speed";

export class TokenCap {
  #clock;
  #most;
  #period;
  #block;
  #times = [];
  #blockedUntil = 0;

  /**
   * @param {import("../clock.mjs").Clock} clock
   * @param {{requests: number, period: number, block: number}} cap period, block: seconds
   */
  constructor(clock, { requests, period, block }) {
    this.#clock = clock;
    this.#most = requests;
    this.#period = period;
    this.#block = block;
  }

  /**
   * Count a request.
   * @returns {Record<string, string>} the headers that its answer has
   */
  take() {
    const now = this.#clock.now();
    const start = now - this.#period * 1000;
    while (this.#times.length > 0 && this.#times[0] <= start) this.#times.shift();
    if (now >= this.#blockedUntil && this.#times.length >= this.#most) {
      this.#blockedUntil = now + this.#block * 1000;
    }
    if (now < this.#blockedUntil) {
      const wait = Math.ceil((this.#blockedUntil - now) / 1000);
      throw new Refusal(429, CODE, MESSAGE, {
        ...this.#told(0, wait),
        "retry-after": String(wait),
      });
    }
    this.#times.push(now);
    const reset = Math.ceil((this.#times[0] - start) / 1000);
    return this.#told(this.#most - this.#times.length, reset);
  }

  #told(remaining, reset) {
    return {
      ratelimit: `"default";r=${remaining};t=${reset}`,
      "ratelimit-policy": `"default";q=${this.#most};w=${this.#period}`,
    };
  }
}
