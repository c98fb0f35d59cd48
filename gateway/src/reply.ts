/** The values of a reply as they come in, and the room that is left for more. */

import { collect } from "./bytes.ts";
import { Failure, invalid } from "./errors.ts";
import type { Span } from "./frame.ts";
import { MAX_BODY } from "./limits.ts";

/** For the outcomes' own JSON, which is short wherever it is not taken from the room. */
const RESERVED = 128 * 1024;

const ROOM = MAX_BODY - RESERVED;

export class Reply {
  readonly chunks: Uint8Array[] = [];
  #length = 0;
  #room = ROOM;

  share(): Share {
    return new Share(this);
  }

  /** Takes so many bytes of the room, if they are left. */
  take(size: number): boolean {
    if (size > this.#room) {
      return false;
    }
    this.#room -= size;
    return true;
  }

  release(size: number): void {
    this.#room += size;
  }

  add(chunks: readonly Uint8Array[]): Span {
    const offset = this.#length;
    for (const chunk of chunks) {
      this.chunks.push(chunk);
      this.#length += chunk.byteLength;
    }
    return { offset, length: this.#length - offset };
  }
}

/** What one operation, a read, takes of the room; given back when it finds too little. */
export class Share {
  readonly #reply: Reply;
  #taken = 0;
  #failure: Failure | undefined;

  constructor(reply: Reply) {
    this.#reply = reply;
  }

  /** Throws when the room is used up: by this operation alone, or by all of the batch. */
  take(size: number): void {
    if (this.#failure === undefined && this.#reply.take(size)) {
      this.#taken += size;
      return;
    }
    this.#failure ??= tooLittle(this.#taken + size);
    // At once, not when the others have failed as well: so one of them finds room.
    this.#reply.release(this.#taken);
    this.#taken = 0;
    throw this.#failure;
  }

  /** Reads a value as far as there is room. */
  read(stream: ReadableStream<Uint8Array>): Promise<Uint8Array[]> {
    return collect(stream, (size) => this.take(size));
  }

  /** Puts what was read into the reply. */
  add(chunks: readonly Uint8Array[]): Span {
    return this.#reply.add(chunks);
  }
}

function tooLittle(needed: number): Failure {
  return needed > ROOM
    ? invalid(`the reply would exceed ${MAX_BODY} bytes: ask for less at a time`)
    : new Failure(
        "unavailable",
        `the reply would exceed ${MAX_BODY} bytes: send this operation in another batch`,
        { notSent: true },
      );
}
