// The codes of KV's refusals. NOT_FOUND, NO_NAMESPACE and TITLE_TAKEN are Cloudflare's own, known
// from answers that people have published. For the rest only the HTTP status is documented: no
// client may depend on these numbers.

export const NOT_FOUND = 10009;
export const NO_NAMESPACE = 10013;
export const TITLE_TAKEN = 10014;
export const INVALID = 10001;
export const TOO_LARGE = 10047;
export const KEY_TOO_LONG = 10022;
export const TOO_FREQUENT = 10058;
