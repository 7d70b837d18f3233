"""What several tests of the mathematics share: CUDA's source on the host."""

from __future__ import annotations

from typing import Any

import pytest

from tests import host_cuda


@pytest.fixture(scope="session")
def cupy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stand-in for CuPy that runs initserve.cu, built by a C++ compiler."""
    return host_cuda.Cupy(tmp_path_factory.mktemp("host_cuda"))
