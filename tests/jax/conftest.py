"""Everything about JAX is computed in this process, without regard to the environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INITSERVE_TARGET", "INITSERVE_BACKEND"):
        monkeypatch.delenv(name, raising=False)
