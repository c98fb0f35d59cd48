// Binds a Worker's KV namespace to a server of ours instead of miniflare's. Miniflare loads this
// file by its path and asks it for the binding and for the service behind it.

import { LOCATION_HEADER, NAMESPACE_HEADER } from "../kv/binding.mjs";

export const PLUGIN = "cm-platform-kv";
const SECRET_HEADER = "cm-local-secret";

const service = ({ location, namespace }) => `cm-platform-kv:${location}:${namespace}`;

export const plugins = {
  [PLUGIN]: {
    async getBindings(bindings) {
      return (bindings ?? []).map(({ name, options }) => ({
        name,
        kvNamespace: { name: service(options) },
      }));
    },
    async getNodeBindings() {
      return {};
    },
    async getServices({ options }) {
      return (options ?? []).map(({ options: of }) => ({
        name: service(of),
        external: {
          address: of.address,
          http: {
            injectRequestHeaders: [
              { name: SECRET_HEADER, value: of.secret },
              { name: NAMESPACE_HEADER, value: of.namespace },
              { name: LOCATION_HEADER, value: of.location },
            ],
          },
        },
      }));
    },
  },
};
