"""One thread a process: tests are small, and machines are shared."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything that tests look for is installed (TUTELAGE_SKIPS=fail), only a missing GPU excuses a skip."""
    report = yield
    if report.skipped and os.environ.get("TUTELAGE_SKIPS") == "fail" and not item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report
