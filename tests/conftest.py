"""What holds for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

import hatch_build

# How long an example takes says something about the machine, which others share, and nothing
# about the product.
settings.register_profile("initserve", deadline=None)
settings.load_profile("initserve")


def pytest_configure(config: pytest.Config) -> None:
    """Builds the native library beside its source, where it is not of this source."""
    if hasattr(config, "workerinput"):
        return  # the process that started this one has built it
    built = hatch_build.FOLDER / hatch_build.library_name(sys.platform)
    if built.exists() and hatch_build.digest_of_sources().encode() in built.read_bytes():
        return
    command = hatch_build.compiler()
    if command is None:
        raise pytest.UsageError("no C++ compiler: install g++ or clang++, or pip install ziglang")
    hatch_build.build(hatch_build.FOLDER, command)


@pytest.fixture(params=["local", "server"])
def source(request: pytest.FixtureRequest) -> Iterator[str]:
    """Values of `target=`: this process, and a server."""
    if request.param == "local":
        yield "local"
        return
    from initserver import (  # the launchers' environment has no server's packages
        Server,
        ServerConfig,
    )

    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5)) as server:
        yield server.address
