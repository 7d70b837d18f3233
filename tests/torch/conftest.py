"""Everything about torch is computed in this process, without regard to the environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INITSERVE_TARGET", raising=False)
    monkeypatch.delenv("INITSERVE_BACKEND", raising=False)
