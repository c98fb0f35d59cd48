"""Stores for the suites: the table of a backend over the local Cloudflare."""

from __future__ import annotations

from typing import Any, Final

from cm_platform.testing.cloudflare import LocalCloudflare

# As late as production's KV may be, but not for so long that a value's minimal life passes.
STALENESS: Final = 1.0


class OnCloudflare:
    """Marks suites on the local Cloudflare: of what is long there, samples are in every run."""


def gateway_table(cloudflare: LocalCloudflare) -> dict[str, Any]:
    """The settings of the gateway."""
    return {
        "url": cloudflare.gateway_url,
        "key_id": cloudflare.gateway_key_id,
        "secret": cloudflare.gateway_secret,
    }


def rest_table(cloudflare: LocalCloudflare) -> dict[str, Any]:
    """The settings of the REST API."""
    return {
        "account_id": cloudflare.account_id,
        "api_token": cloudflare.api_token,
        "base_url": cloudflare.rest_url,
        "namespace_id": cloudflare.kv_namespace_id,
    }
