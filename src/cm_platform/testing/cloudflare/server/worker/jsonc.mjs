// Reads wrangler.jsonc: JSON with comments and trailing commas.

/** @param {string} text */
export function parseJsonc(text) {
  const plain = text.replace(TOKENS, (token, string) => (string === undefined ? "" : token));
  return JSON.parse(plain);
}

// Strings first, so that what looks like a comment in one stays.
const TOKENS =
  /("(?:[^"\\]|\\.)*")|\/\/[^\n]*|\/\*[\s\S]*?\*\/|,(?=(?:\s|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*[\]}])/g;
