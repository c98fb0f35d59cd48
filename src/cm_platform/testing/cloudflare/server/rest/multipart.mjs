// Parts of a multipart/form-data body, as bytes: to decode them as text would spoil values.

const BLANK = Buffer.from("\r\n\r\n");

/**
 * @param {Buffer} body
 * @param {string} contentType
 * @returns {Map<string, Buffer> | null} by name; null when it is no such body
 */
export function parseMultipart(body, contentType) {
  const boundary = /boundary=(?:"([^"]+)"|([^;]+))/i.exec(contentType);
  if (boundary === null) return null;
  const mark = Buffer.from(`\r\n--${boundary[1] ?? boundary[2].trim()}`);
  // The first mark has no line before it.
  const text = Buffer.concat([Buffer.from("\r\n"), body]);
  const parts = new Map();
  let at = text.indexOf(mark);
  while (at >= 0) {
    const start = at + mark.length;
    if (text.subarray(start, start + 2).toString() === "--") return parts;
    const end = text.indexOf(mark, start);
    const blank = text.indexOf(BLANK, start);
    if (end < 0 || blank < 0 || blank > end) return null;
    const headers = text.subarray(start, blank).toString("utf8");
    const name = /content-disposition:[^\r\n]*[;\s]name="([^"]*)"/i.exec(headers);
    if (name === null) return null;
    parts.set(name[1], text.subarray(blank + BLANK.length, end));
    at = end;
  }
  return null;
}
