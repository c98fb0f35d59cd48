/** The canonical form: the bytes of a request that its signature stands for. */

import { concat, hex, utf8 } from "./bytes.ts";

const MARK = "cm-gateway-v1";

export interface SignedParts {
  keyId: string;
  method: string;
  /** Of the URL, percent-encoded as it was sent. */
  path: string;
  /** Of the URL, percent-encoded as it was sent, without the question mark. */
  query: string;
  body: Uint8Array<ArrayBuffer>;
  /** Unix milliseconds, in decimal. */
  timestamp: string;
  nonce: string;
  /** Decoded. */
  partition: string;
}

/** Each field with its length before it: no two requests have the same form. */
export async function canonical(parts: SignedParts): Promise<Uint8Array<ArrayBuffer>> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", parts.body));
  const fields = [
    MARK,
    parts.keyId,
    parts.method,
    parts.path,
    sorted(parts.query),
    hex(digest),
    parts.timestamp,
    parts.nonce,
    parts.partition,
  ];
  return concat(fields.flatMap(prefixed));
}

function prefixed(field: string): Uint8Array[] {
  const bytes = utf8(field);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.byteLength);
  return [length, bytes];
}

/** In a URL all is ASCII, so that JavaScript's order is the bytes'. */
function sorted(query: string): string {
  return query.split("&").sort().join("&");
}
