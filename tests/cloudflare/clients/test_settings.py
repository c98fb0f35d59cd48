"""The settings of both clients: what is refused, and how that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cm_platform.cloudflare.settings import BindingName, GatewaySettings, RestSettings
from cm_platform.cloudflare.trust import ssl_context
from cm_platform.errors import ConfigInvalidError

GATEWAY = {
    "url": "https://gateway.example.workers.dev",
    "key_id": "2026-11",
    "secret": "a secret of thirty-two characters",
}
REST = {"account_id": "0" * 32, "api_token": "the-token"}


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example.workers.dev",
        "https://gateway.example.com:8443/",
        "http://127.0.0.1:8787",
        "http://localhost:8787",
        "http://[::1]:8787",
    ],
)
def test_a_gateway_is_reached_by_https_or_on_this_machine(url: str) -> None:
    settings = GatewaySettings.model_validate({**GATEWAY, "url": url})
    assert settings.url == url.rstrip("/")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"url": "http://gateway.example.com"}, "https"),
        ({"url": "http://127.0.0.1.example.com"}, "https"),
        ({"url": "http://localhost.example.com"}, "https"),
        ({"url": "https://gateway.example.com/v1"}, "without a path"),
        ({"url": "https://user:word@gateway.example.com"}, "no query, fragment or user"),
        ({"url": "https://gateway.example.com?x=1"}, "no query"),
        ({"url": "https://gateway.example.com:99999"}, "port"),
        ({"url": "https://gatéway.example.com"}, "URL with a host"),
        ({"url": "gateway.example.com"}, "URL with a host"),
        ({"key_id": ""}, "letters"),
        ({"key_id": "a\r\nb"}, "letters"),
        ({"key_id": "a" * 65}, "letters"),
        ({"secret": "short"}, "32 characters"),
        ({"pool_size": 0}, "greater than or equal to 1"),
        ({"read_timeout": 0}, "greater than 0"),
        ({"proxy": "socks5://user:word@127.0.0.1"}, "http or https"),
        ({"proxy": "127.0.0.1:3128"}, "http or https"),
        ({"proxy": "http://user:word@127.0.0.1:proxy"}, "perhaps a port"),
        ({"proxy": "http://user:word@[::1"}, "perhaps a port"),
        ({"bindings": {}}, "not permitted"),
    ],
)
def test_a_bad_setting_of_the_gateway_is_named(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        GatewaySettings.model_validate({**GATEWAY, **change})
    assert "short" not in str(caught.value)
    assert "user:word" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"account_id": "acme"}, "32 lower-case hex digits"),
        ({"api_token": ""}, "printable ASCII"),
        ({"api_token": "a b"}, "printable ASCII"),
        ({"base_url": "http://api.example.com/client/v4"}, "https"),
        ({"base_url": "https://api.example.com/client/v4?x"}, "no query"),
        ({"limiter_wait": -1}, "greater than or equal to 0"),
    ],
)
def test_a_bad_setting_of_the_api_is_named(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        RestSettings.model_validate({**REST, **change})


def test_the_local_api_is_reached_by_changing_its_address() -> None:
    settings = RestSettings.model_validate({**REST, "base_url": "http://127.0.0.1:1/client/v4/"})
    assert settings.base_url == "http://127.0.0.1:1/client/v4"


@pytest.mark.parametrize("name", ["KV", "MY_KV", "$x", "_1"])
def test_a_binding_has_a_javascript_name(name: str) -> None:
    assert TypeAdapter(BindingName).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "1KV", "my-kv", "a b", "kv\n", "a" * 65])
def test_another_name_is_no_binding(name: str) -> None:
    with pytest.raises(ValidationError, match="JavaScript"):
        TypeAdapter(BindingName).validate_python(name)


def test_a_file_of_authorities_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalidError, match="cannot be read"):
        ssl_context(tmp_path / "absent.pem")
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigInvalidError, match="no certificate"):
        ssl_context(tmp_path / "text.pem")


def test_the_environment_names_no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    assert ssl_context(None).get_ca_certs()
