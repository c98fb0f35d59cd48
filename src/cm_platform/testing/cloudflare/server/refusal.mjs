// A request that production refuses, in both faces' terms.

export class Refusal extends Error {
  /**
   * @param {number} status of the HTTP answer
   * @param {number} code in Cloudflare's envelope
   * @param {string} message shown by the REST face and, after the status, by the binding
   * @param {Record<string, string>} headers that the answer has besides
   */
  constructor(status, code, message, headers = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}
