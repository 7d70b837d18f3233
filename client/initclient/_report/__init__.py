"""plot: a plan as a page that shows what its tensors hold, for any browser, with nothing to load.

The figures are of the values themselves, made in this process: some of each large tensor, all
of a small one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from initcore import Layout
from initcore.backends import select
from initcore.resolution import Resolved

from initclient._describe import TensorDescription, from_layout
from initclient._files import replacing
from initclient._plans import PlanLike, lay_out
from initclient._progress import Progress
from initclient._report import _figures, _page
from initclient._report._densities import ideal_of
from initclient._report._flows import Flow, LayerFlow
from initclient._report._kinds import Kind, kinds
from initclient._report._sampling import Samples
from initclient._report._spectra import has_spectrum, spectrum

__all__ = ["Flow", "LayerFlow", "plot"]

_SAMPLED = 100_000
_SAMPLED_SMALL = 10_000

# Schemes whose elements are a few values in a fixed order: no histogram says anything of them.
_PATTERNS = ("eye", "identity", "dirac", "hadamard")


def plot(
    plan: PlanLike,
    path: str | os.PathLike[str],
    *,
    flows: Mapping[str, Flow] | Iterable[Flow] = (),
    seed: int | None = None,
    title: str | None = None,
    max_tensors: int = 256,
    backend: str | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes a page that shows a plan: one HTML file, without scripts, that loads nothing.

    It has a histogram of the values of each tensor against the density that they are drawn
    from; up to 512 singular values of matrices of up to 2^20 elements, against 1 (times gain) for
    `orthogonal` and against the law of Marchenko and Pastur for independent elements; tables
    of everything. Tensors that differ in the numbers of their names alone, such as those of a
    model's layers, are shown as one. Of a tensor at most 100,000 elements are made, so that a
    plan of any size is cheap; `orthogonal` and `sparse`, which need whole matrices, are shown
    up to 2^22 elements. The same plan gives the same page.

    Args:
        plan: a Plan, a dict from names to tensors, or the path of a plan file.
        path: the file to write. It appears whole or not at all.
        flows: what `initclient.torch.flow` returns: how signals travel through a model.
        seed: the plan's seed instead of its own.
        title: the page's title; None names the plan's file.
        max_tensors: how many tensors are sampled; the others are listed.
        backend: what computes, as for `fetch`.
        checkpoints: the folder of the checkpoints that the plan takes values from; None means
            INITSERVE_CHECKPOINTS. Without either these tensors are listed and not drawn.
        progress: called now and then with the bytes made and in all.

    Returns:
        The path of the file.

    Raises:
        PlanError: if the plan is wrong, or a checkpoint does not have what it says.
        ValueError: if `max_tensors` is negative, or `flows` holds something else.
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
    laid_out = lay_out(plan, seed, local=False)
    if title is None:
        is_file = isinstance(plan, str | os.PathLike)
        title = f"Plan {Path(plan).name}" if is_file else "Plan"  # type: ignore[arg-type]
    elements = sum(min(entry.tensor.count, _SAMPLED) for entry in laid_out.entries)
    samples = Samples(laid_out, select(backend, min(elements, max_tensors * _SAMPLED)), checkpoints)
    shown = _Drawing(laid_out, samples, max_tensors, progress).shown()
    figures = [
        _figures.flow(shown_flows, "Outputs", lambda layer: layer.std, "flow-out"),
        _figures.flow(shown_flows, "Gradients", lambda layer: layer.grad_std, "flow-grad"),
    ]
    written = _page.page(
        title, laid_out.plan.seed, from_layout(laid_out), shown, shown_flows, figures
    )
    with replacing(path) as file:
        file.write(written.encode())
    return Path(path)


def _flows(flows: Mapping[str, Flow] | Iterable[Flow]) -> list[Flow]:
    found = list(flows.values() if isinstance(flows, Mapping) else flows)
    for flow in found:
        if not isinstance(flow, Flow):
            raise ValueError(f"flows holds {flow!r}; give what initclient.torch.flow returns")
    return found


class _Drawing:
    """The figures of one plan's tensors."""

    def __init__(
        self, laid_out: Layout, samples: Samples, max_tensors: int, progress: Progress | None
    ) -> None:
        described = from_layout(laid_out).tensors
        self._described: dict[str, TensorDescription] = {one.name: one for one in described}
        self._kinds = kinds(laid_out.entries)
        drawn = [kind for kind in self._kinds if not kind.is_constant]
        # One of each kind first, then the others.
        order = [kind.entries[0] for kind in drawn]
        order += [entry for kind in drawn for entry in kind.entries[1:]]
        self._chosen = {entry.tensor.name for entry in order[:max_tensors]}
        self._firsts = {kind.first.name for kind in drawn}
        work = {e.tensor.name: self._cost(e.tensor) for e in order[:max_tensors]}
        self._work, self._total, self._done = work, sum(work.values()), 0
        self._progress = progress
        self._samples = samples

    def shown(self) -> list[_page.Shown]:
        """Every kind, with its figures."""
        return [self._kind(kind, number) for number, kind in enumerate(self._kinds)]

    def _kind(self, kind: Kind, number: int) -> _page.Shown:
        described = self._described[kind.first.name]
        if kind.is_constant:
            return _page.Shown(kind, described)
        if kind.first.name not in self._chosen:
            return _page.Shown(kind, described, note="Not drawn: beyond the number of tensors.")
        obstacle = self._samples.obstacle(kind.first)
        if obstacle:
            return _page.Shown(kind, described, note=f"Not drawn: {obstacle}.")
        members = [
            self._member(entry.tensor)
            for entry in kind.entries
            if len(kind.entries) > 1 and entry.tensor.name in self._chosen
        ]
        figures = self._figures(kind.first, f"k{number}")
        return _page.Shown(kind, described, tuple(figures), tuple(members))

    def _figures(self, tensor: Resolved, key: str) -> Sequence[str]:
        ideal, dtype, figures = ideal_of(tensor), tensor.dtype.name, []
        whole = self._samples.whole(tensor) if has_spectrum(tensor) else None
        # Ones and zeros make no histogram.
        if ideal is not None or tensor.scheme not in _PATTERNS:
            values = self._samples.some(tensor, _SAMPLED)
            figures.append(_figures.distribution(tensor.name, values, dtype, ideal, f"{key}-d"))
        if whole is not None:
            found = spectrum(tensor, whole)
            figures.append(_figures.singular_values(tensor.name, found, f"{key}-s"))
        self._tell(tensor)
        return figures

    def _member(self, tensor: Resolved) -> _page.Member:
        values = self._samples.some(tensor, _SAMPLED_SMALL)
        picture = _figures.small(tensor.name, values, tensor.dtype.name, ideal_of(tensor))
        if tensor.name not in self._firsts:
            self._tell(tensor)
        return _page.Member(tensor.name, picture, float(values.mean()), float(values.std()))

    def _cost(self, tensor: Resolved) -> int:
        limit = _SAMPLED if tensor.name in self._firsts else _SAMPLED_SMALL
        return min(tensor.count, limit) * tensor.dtype.itemsize

    def _tell(self, tensor: Resolved) -> None:
        self._done += self._work[tensor.name]
        if self._progress:
            self._progress(self._done, self._total)
