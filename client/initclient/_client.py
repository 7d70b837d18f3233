"""Client and Local: a source of values, settled once, with the verbs as methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from initcore import Checkpoints
from initcore.backends import BackendName
from initcore.show import Description
from numpy.typing import NDArray

from initclient._checking import Verification
from initclient._compute import FrameworkName
from initclient._fetch import fetch
from initclient._fetch_file import fetch_file
from initclient._inspect import describe
from initclient._machine import ProgressLike
from initclient._plan import PlanLike
from initclient._source import (
    Connections,
    Credentials,
    Folder,
    InProcess,
    Retry,
    Service,
    Source,
    service_at,
)
from initclient._verify import Verifiable, verify


class _Verbs:
    """The verbs, with this object as their target."""

    def _target(self) -> Source:
        assert isinstance(self, Service | InProcess)
        return self

    @overload
    def fetch(
        self,
        plan: PlanLike,
        *,
        seed: int | None = None,
        progress: ProgressLike = None,
        framework: Literal["numpy"] = "numpy",
        device: None = None,
        check: int = 0,
    ) -> dict[str, NDArray[Any]]: ...

    @overload
    def fetch(
        self,
        plan: PlanLike,
        *,
        seed: int | None = None,
        progress: ProgressLike = None,
        framework: FrameworkName,
        device: Any = None,
        check: int = 0,
    ) -> dict[str, Any]: ...

    def fetch(
        self,
        plan: PlanLike,
        *,
        seed: int | None = None,
        progress: ProgressLike = None,
        framework: FrameworkName = "numpy",
        device: Any = None,
        check: int = 0,
    ) -> dict[str, Any]:
        """The weights of a plan as arrays: `initclient.fetch` from here."""
        return fetch(
            plan,
            target=self._target(),
            seed=seed,
            progress=progress,
            framework=framework,
            device=device,
            check=check,
        )

    def fetch_file(
        self,
        plan: PlanLike,
        path: str | os.PathLike[str],
        *,
        seed: int | None = None,
        progress: ProgressLike = None,
        shard_size: int | str | None = None,
        resume: bool = True,
        check: int = 0,
    ) -> Path:
        """Writes the weights of a plan to a file: `initclient.fetch_file` from here."""
        return fetch_file(
            plan,
            path,
            target=self._target(),
            seed=seed,
            progress=progress,
            shard_size=shard_size,
            resume=resume,
            check=check,
        )

    def describe(
        self,
        plan: PlanLike,
        *,
        seed: int | None = None,
        fingerprints: bool = False,
        progress: ProgressLike = None,
    ) -> Description:
        """Resolves a plan, without its data: `initclient.describe` from here."""
        return describe(
            plan, target=self._target(), seed=seed, fingerprints=fingerprints, progress=progress
        )

    def verify(
        self,
        what: Verifiable,
        plan: PlanLike,
        *,
        seed: int | None = None,
        partial: bool = False,
        ignore: str | Iterable[str] = (),
        progress: ProgressLike = None,
        prefix: str = "",
    ) -> Verification:
        """Compares a file, arrays or a model with a plan: `initclient.verify` from here."""
        return verify(
            what,
            plan,
            target=self._target(),
            seed=seed,
            partial=partial,
            ignore=ignore,
            progress=progress,
            prefix=prefix,
        )


class Client(_Verbs, Service):
    """A service, with the credentials, retry, streams and timeout of all calls to it.

    The verbs are its methods, and every function that takes `target` takes it, in torch, JAX and
    asyncio too. Blocking calls leave their connections open for the next call. An idle connection
    closes after a minute, by `close`, and before the process forks; so forked children, which
    have the client too, open their own. Threads may share a client. It can be pickled and
    copied, without its connections; clients with equal settings are equal.

    Args:
        target: address of a server, as HOST:PORT; several, as a list or with commas; or a gRPC
            name such as dns:///NAME:PORT, whose addresses take turns.
        credentials: certificates and tokens; None means those of INITSERVE_CA and the other
            variables (`Credentials.from_environment()`), if they are set.
        retry: when to continue after a failure and when to give up; None means `Retry()`.
        streams: parallel streams of a download; None chooses by size.
        timeout: seconds for each call, failures and pauses included; None means no limit.

    Raises:
        TypeError: for an address that is not text.
        ValueError: for an argument out of range, "local", or a token that would be sent
            unencrypted.

    Example:
        >>> import initclient as ic
        >>> client = ic.Client("init-0.init:50051,init-1.init:50051", timeout=600)
        >>> client
        Client('init-0.init:50051', 'init-1.init:50051', timeout=600)
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        credentials: Credentials | None = None,
        retry: Retry | None = None,
        streams: int | None = None,
        timeout: float | None = None,
    ) -> None:
        at = service_at(
            target, credentials=credentials, retry=retry, streams=streams, timeout=timeout
        )
        super().__init__(
            at.addresses, at.credentials, at.retry, at.streams, at.timeout, Connections()
        )

    def close(self) -> None:
        """Closes idle connections. The next call opens new ones."""
        assert self.connections is not None
        self.connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shown = [repr(address) for address in self.addresses]
        if self.credentials != Credentials():
            shown.append(f"credentials={self.credentials!r}")
        if self.retry != Retry():
            shown.append(f"retry={self.retry!r}")
        if self.streams is not None:
            shown.append(f"streams={self.streams}")
        if self.timeout is not None:
            shown.append(f"timeout={self.timeout:g}")
        return f"Client({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _client, (
            self.addresses,
            self.credentials,
            self.retry,
            self.streams,
            self.timeout,
        )


def _client(
    addresses: tuple[str, ...],
    credentials: Credentials,
    retry: Retry,
    streams: int | None,
    timeout: float | None,
) -> Client:
    """The client of a pickle, with new connections."""
    return Client(addresses, credentials=credentials, retry=retry, streams=streams, timeout=timeout)


class Local(_Verbs, InProcess):
    """This process, which computes values itself, with its backend and checkpoints.

    The verbs are its methods, and every function that takes `target` takes it. `ic.Local()` is
    this process even where INITSERVE_TARGET names servers.

    Args:
        backend: the backend that computes: "auto", "numpy", "native" or "cupy"; None means the
            environment variable INITSERVE_BACKEND, else "auto". The bits are the same.
        checkpoints: the folder of the checkpoints that plans take values from; None means the
            environment variable INITSERVE_CHECKPOINTS; if that is unset, no folder.

    Raises:
        PlanError: for a backend that is not known.

    Example:
        >>> import initclient as ic
        >>> ic.Local(backend="numpy").fetch({"fc.bias": ic.zeros((3,))})["fc.bias"]
        array([0., 0., 0.], dtype=float32)
    """

    def __init__(
        self, *, backend: BackendName | None = None, checkpoints: Folder | Checkpoints | None = None
    ) -> None:
        super().__init__(backend=backend, checkpoints=checkpoints)

    def __repr__(self) -> str:
        given = {"backend": self.backend, "checkpoints": self.checkpoints}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Local({', '.join(shown)})"
