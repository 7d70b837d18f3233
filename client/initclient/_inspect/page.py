"""plot: an HTML page that shows a plan's values, for any browser; it loads no other file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from initcore.backends import BackendName
from initcore.report import Flow

from initclient._files import real_file, replacing
from initclient._machine import ProgressLike, shown
from initclient._plan import PlanLike, lay_out
from initclient._source import open_checkpoints


def plot(
    plan: PlanLike,
    path: str | os.PathLike[str],
    *,
    flows: Mapping[str, Flow] | Iterable[Flow] = (),
    seed: int | None = None,
    title: str | None = None,
    max_tensors: int = 256,
    backend: BackendName | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    progress: ProgressLike = None,
) -> Path:
    """Writes a page that shows a plan: one HTML file, without scripts, that loads no other file.

    It has a histogram of each tensor's values against the density that they are drawn from; up
    to 512 singular values of matrices of up to 2^20 elements, against 1 (times gain) for
    `orthogonal` and against the law of Marchenko and Pastur for independent elements; tables of
    everything. Tensors whose names differ only in numbers, such as those of a model's layers,
    are shown as one. At most 100,000 elements of a tensor are made, so that a plan of any size
    is cheap; `orthogonal` and `sparse`, which need whole matrices, are shown up to 2^22
    elements, and `norm` if its norms take up to 2^26. The same plan gives the same page.

    Args:
        plan: a Plan, a dict from names to tensors, or the path of a plan file.
        path: the file to write. It appears whole or not at all.
        flows: the result of `initclient.torch.flow`: how signals spread through a model.
        seed: the plan's seed instead of its own.
        title: the page's title; None names the plan's file.
        max_tensors: how many tensors are sampled; the others are only listed.
        backend: the backend that computes, as for `fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from; None means
            INITSERVE_CHECKPOINTS. Without a folder these tensors are only listed.
        progress: True for a bar, or a function of the bytes made and in all.

    Returns:
        The path of the file.

    Raises:
        PlanError: if the plan is wrong, or a checkpoint does not have its tensors.
        ValueError: if `max_tensors` is negative, or `flows` holds anything but a `Flow`.
        OSError: if the file cannot be written.

    Example:
        >>> import initclient as ic, tempfile
        >>> plan = {"fc.weight": ic.orthogonal((64, 32)), "fc.bias": ic.zeros((64,))}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ic.plot(plan, f"{folder}/report.html").name
        'report.html'
    """
    if max_tensors < 0:
        raise ValueError(f"max_tensors is {max_tensors}; give 0 or more")
    shown_flows = _flows(flows)
    # Refuses a wrong path before the work.
    real_file(path)
    layout = lay_out(plan, seed, local=False)
    if title is None:
        is_file = isinstance(plan, str | os.PathLike)
        title = f"Plan {Path(plan).name}" if is_file else "Plan"  # type: ignore[arg-type]
    # Imported here, since few callers draw a page.
    from initcore.report.drawing import report

    found = open_checkpoints(checkpoints or None, [e.tensor for e in layout.entries])
    with shown(progress, Path(path).name) as bar:
        written = report(layout, title, shown_flows, max_tensors, backend, found, bar)
    with replacing(path) as file:
        file.write(written.encode())
    return Path(path)


def _flows(flows: Mapping[str, Flow] | Iterable[Flow]) -> list[Flow]:
    found = list(flows.values() if isinstance(flows, Mapping) else flows)
    for flow in found:
        if not isinstance(flow, Flow):
            raise ValueError(f"flows holds {flow!r}; give the result of initclient.torch.flow")
    return found
