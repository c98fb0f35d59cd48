"""The Worker's own checks: its types, and its tests in workerd."""

from __future__ import annotations

import re

import pytest

from cm_platform.testing.cloudflare.install import Installed

from .conftest import RunNode

pytestmark = [pytest.mark.suite, pytest.mark.xdist_group("gateway-typescript")]

TSC = "node_modules/typescript/bin/tsc"


@pytest.mark.parametrize("project", [".", "test"])
def test_the_worker_and_its_tests_are_well_typed(
    packages: Installed, run_node: RunNode, project: str
) -> None:
    run_node(packages.root, packages.modules / TSC, "-p", project)


@pytest.mark.timeout(300)
def test_the_worker_passes_its_own_tests_in_workerd(packages: Installed, run_node: RunNode) -> None:
    run_node(packages.root, "build.mjs")
    report = run_node(packages.root, "--test", "--test-reporter=tap", "test/*.test.ts", timeout=280)
    passed = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 150
    assert "# fail 0" in report
    assert "# skipped 0" in report
