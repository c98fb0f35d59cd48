"""Every Python block of the pages runs, page by page, and every TOML block is a configuration."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cm_platform
from cm_platform.config import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENVIRONMENT = {
    "PGPASSWORD": "password",
    "CM_SIGNING_KEY": "a-signing-key-of-32-characters-xx",
    "CF_ACCOUNT_ID": "0123456789abcdef0123456789abcdef",
    "CM_GATEWAY_SECRET": "a-gateway-secret-of-32-characters",
    "R2_ACCESS_KEY_ID": "key-id",
    "REDIS_URL": "rediss://localhost:6379",
    "R2_SECRET_ACCESS_KEY": "secret",
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for kind, code in found if kind == language]


def of(language: str) -> list[Path]:
    """The pages that have such blocks."""
    pages = [page for page in PAGES if blocks(page, language)]
    assert pages
    return pages


@pytest.mark.parametrize("page", of("python"), ids=lambda page: page.name)
def test_python_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    try:
        for number, code in enumerate(blocks(page, "python"), 1):
            exec(compile(code, f"{page.name}, block {number}", "exec"), namespace)  # noqa: S102
    finally:
        cm_platform.close()


@pytest.mark.parametrize("page", of("toml"), ids=lambda page: page.name)
def test_toml_blocks_of_a_page_are_valid_configurations(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        assert load(path, environ=ENVIRONMENT).kinds


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_of_settings_is_current() -> None:
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, str(ROOT / "scripts" / "generate_settings.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_table_of_backends_in_the_readme_is_current() -> None:
    run = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "cm_platform.cli", "services", "--check", str(ROOT / "README.md")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
