"""The example configuration is in order, given the environment that it asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cm_platform import ConfigInvalidError, Platform, Tenant
from cm_platform.config import load
from cm_platform.routing import Route, Rules

FILE = Path(__file__).parents[2] / "examples" / "cm_platform.toml"
ENVIRONMENT = {
    "CF_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "R2_ACCESS_KEY_ID": "canary-access-key-id",
    "R2_SECRET_ACCESS_KEY": "canary-secret-access-key",
    "CM_SIGNING_KEY": "canary-signing-key-canary-signing-key",
}


def test_it_loads_and_a_platform_can_be_made_of_it() -> None:
    config = load(FILE, environ=ENVIRONMENT)
    assert sorted(config.kinds["storage"].backends) == ["local", "r2", "s3"]
    with Platform(config) as platform:
        assert platform.get_service("storage", Tenant("magazine")).tenant.id == "magazine"


@pytest.mark.parametrize(
    ("tenant", "backend"), [("magazine", "r2"), ("staging", "local"), ("anybody", "s3")]
)
def test_its_rules_route_as_its_comments_say(tenant: str, backend: str) -> None:
    storage = load(FILE, environ=ENVIRONMENT).kinds["storage"]
    rules = Rules("storage", storage.rules, Route.parse(storage.default))
    assert rules.evaluate(tenant).backend == backend


def test_one_tenant_has_a_bucket_of_its_own_and_keeps_the_rest() -> None:
    storage = load(FILE, environ=ENVIRONMENT).kinds["storage"]
    own = storage.tenants["acme"]["s3"].settings.model_dump()
    common = storage.backends["s3"].settings.model_dump()
    assert own == {**common, "bucket": "acme-media", "region": "eu-central-1"}


def test_without_its_environment_every_missing_variable_is_named() -> None:
    with pytest.raises(ConfigInvalidError) as caught:
        load(FILE, environ={})
    assert all(name in str(caught.value) for name in ENVIRONMENT)


def test_what_it_says_twice_with_its_defaults_is_what_the_defaults_are() -> None:
    written = tomllib.loads(FILE.read_text(encoding="utf-8"))
    minimal = {
        "storage": {
            "default": "local",
            "backends": {"local": {"driver": "local", "path": "media"}},
        }
    }
    fresh = load(minimal, environ={}).kinds["storage"]
    assert written["storage"]["retry"] == fresh.retry.model_dump()
    assert written["storage"]["timeout"] == fresh.timeout
    assert written["storage"]["layout"] == fresh.layout
