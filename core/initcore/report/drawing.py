"""From a plan's layout to the page: which tensors are sampled, and which figures each one gets.

The figures show the values themselves, computed in this process: a sample of each large tensor,
all elements of a small one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from initcore.backends import select
from initcore.file import Layout, Progress
from initcore.generate import Checkpoints
from initcore.report import figures as _figures
from initcore.report import page as _page
from initcore.report.densities import ideal_of
from initcore.report.flows import Flow
from initcore.report.kinds import Kind, kinds
from initcore.report.sampling import Samples
from initcore.report.spectra import has_spectrum, spectrum
from initcore.resolve import Hadamard, Lattice, Resolved
from initcore.show import TensorDescription, from_layout

_SAMPLED = 100_000
_SAMPLED_SMALL = 10_000


def report(
    layout: Layout,
    title: str,
    flows: Sequence[Flow],
    max_tensors: int,
    backend: str | None,
    checkpoints: Checkpoints | None,
    progress: Progress | None,
) -> str:
    """The page, as HTML; the arguments are those of `plot`, checked."""
    elements = sum(min(entry.tensor.count, _SAMPLED) for entry in layout.entries)
    samples = Samples(layout, select(backend, min(elements, max_tensors * _SAMPLED)), checkpoints)
    described = from_layout(layout)
    shown = _Drawing(layout, described.tensors, samples, max_tensors, progress).shown()
    figures = [
        _figures.flow(flows, "Outputs", lambda layer: layer.std, "flow-out"),
        _figures.flow(flows, "Gradients", lambda layer: layer.grad_std, "flow-grad"),
    ]
    return _page.page(title, layout.plan.seed, described, shown, flows, figures)


class _Drawing:
    """The figures of one plan's tensors."""

    def __init__(
        self,
        layout: Layout,
        described: Sequence[TensorDescription],
        samples: Samples,
        max_tensors: int,
        progress: Progress | None,
    ) -> None:
        self._described = {one.name: one for one in described}
        self._kinds = kinds(layout.entries)
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
        # A few values in a fixed order: no histogram says anything of them.
        if not isinstance(tensor.content, Hadamard | Lattice):
            values = self._samples.some(tensor, _SAMPLED)
            figures.append(_figures.distribution(tensor.name, values, dtype, ideal, f"{key}-d"))
        if whole is not None and np.isfinite(whole).all():
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
