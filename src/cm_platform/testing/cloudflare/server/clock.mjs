// The virtual clock: the machine's, plus what tests have advanced it by. It can stand still, but
// never goes back.

export class Clock {
  #offset;
  #still = null;

  /** @param {number} offset milliseconds ahead of the machine's clock */
  constructor(offset = 0) {
    this.#offset = offset;
  }

  /** Milliseconds since the Unix epoch. */
  now() {
    return this.#still ?? Date.now() + this.#offset;
  }

  /** Milliseconds by which it is ahead of the machine's clock. */
  get offset() {
    return this.#offset;
  }

  /**
   * Stand still, but for `advance`; or go on, from the time that it would be by now.
   * @param {boolean} still
   */
  freeze(still) {
    this.#still = still ? this.now() : null;
  }

  /** @param {number} seconds */
  advance(seconds) {
    if (!Number.isFinite(seconds) || seconds < 0) {
      throw new RangeError("the clock advances by a finite number of seconds, 0 or more");
    }
    const milliseconds = Math.round(seconds * 1000);
    this.#offset += milliseconds;
    if (this.#still !== null) this.#still += milliseconds;
  }
}
