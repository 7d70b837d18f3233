"""Pages for people: the list of models, the table of one, and its figures.

They load nothing and hold no scripts, so that they look the same where there is no internet.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.parse import parse_qs, quote

from initcore import Checkpoints, Layout, layout
from initcore.show import from_layout, size_text

from initserver.config import Limits
from initserver.hub.revisions import RepoFile, Revision, Weights
from initserver.models import Model
from initserver.share import LatestValues, SingleFlight, Task

_KEPT_BYTES = 16 << 20

# Tensors of which the page of figures draws values; the others are in its table.
_DRAWN = 40

_LISTED = 2000

# From so many models on, the list has a field to search it.
_SEARCHABLE = 20
_SEARCHED = 200


class Pages:
    """Makes pages, each once for all readers.

    Args:
        limits: the limits of the server.
        backend: name of the backend that draws the values in figures.
        checkpoints: where `pretrained` tensors are read; None leaves them out of figures.
    """

    def __init__(self, limits: Limits, backend: str, checkpoints: Checkpoints | None) -> None:
        self._limits = limits
        self._backend = backend
        self._checkpoints = checkpoints
        # Figures take seconds of a CPU: one page at a time, beside downloads.
        self._pool = ThreadPoolExecutor(1, "initserver-page")
        self._made = SingleFlight(LatestValues[bytes](_KEPT_BYTES, len))

    def home(self, models: Sequence[Model], query: str = "") -> bytes:
        """The list of models.

        Args:
            models: all models.
            query: of the URL: the words of `search` must be in a model's name.
        """
        search = parse_qs(query).get("search", [""])[0][:_SEARCHED]
        found = [
            one for one in models if all(w in one.name.lower() for w in search.lower().split())
        ]
        rows = "".join(
            f'<tr><td><a href="/{quote(model.name)}">{escape(model.name)}</a></td>'
            f'<td class="number">{model.tensors:,}</td>'
            f'<td class="number">{size_text(model.size)}</td>'
            f"<td><code>{model.digest[:12]}</code></td></tr>\n"
            for model in found[:_LISTED]
        )
        more = len(found) - _LISTED
        note = f'<p class="soft">{more:,} more are not shown.</p>\n' if more > 0 else ""
        form = ""
        if len(models) > _SEARCHABLE or search:
            form = (
                '<form role="search"><label>Name <input type="search" name="search" '
                f'value="{escape(search)}"/></label> <button>Search</button> '
                f'<span class="soft">{len(found):,} of {len(models):,} models</span></form>\n'
            )
        body = (
            "<header><h1>Models</h1>\n"
            '<p class="soft">Weights that are computed when they are read, for every client of '
            f"the Hugging Face Hub.</p></header>\n{form}"
            '<div class="scroll" tabindex="0" role="region" aria-label="Models"><table><thead><tr>'
            '<th scope="col">model</th><th scope="col" class="number">tensors</th>'
            '<th scope="col" class="number">bytes</th><th scope="col">plan</th></tr></thead>\n'
            f"<tbody>\n{rows}</tbody></table></div>\n{note}"
        )
        return _document("Models", body)

    def model(self, revision: Revision, host: str) -> bytes:
        """The page of one model: how to read it, its files, the table of `describe`.

        Args:
            revision: the model.
            host: scheme, name and port under which the reader sees this server.
        """
        key = ("model", revision.commit, revision.model.name, host)
        return self._made.join(
            Task(key, lambda _, pulse: self._model(revision, host), self._pool)
        ).result()

    def plot(self, revision: Revision) -> bytes:
        """The page of figures, as `initclient plot` writes it."""
        key = ("plot", revision.digest, revision.model.name)
        return self._made.join(
            Task(key, lambda _, pulse: self._plot(revision), self._pool)
        ).result()

    def close(self) -> None:
        """Frees the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _model(self, revision: Revision, host: str) -> bytes:
        name, described = revision.model.name, from_layout(_layout(revision, self._limits))
        path = quote(name)
        files = "".join(_file_row(path, revision, file) for file in revision.files.values())
        seeds = (
            '<p class="soft">The seed is open: the revision <code>seed-N</code> is this model '
            "with the seed N.</p>\n"
            if revision.seeds_are_open
            else ""
        )
        shell = (
            f"HF_ENDPOINT={host} python\n"
            f'>>> AutoModelForCausalLM.from_pretrained("{name}", revision="{revision.commit}")'
        )
        body = (
            f'<header><p><a href="/">Models</a></p><h1>{escape(name)}</h1>\n'
            f'<p class="soft">revision <code>{revision.commit}</code></p>\n'
            f'<p class="soft">plan digest <code>{revision.digest}</code></p></header>\n'
            f"<pre><code>{escape(shell)}</code></pre>\n"
            f'{seeds}<p><a href="/-/plot/{path}">Figures of its values</a></p>\n'
            "<section><h2>Tensors</h2>\n"
            '<div class="scroll" tabindex="0" role="region" aria-label="Tensors">'
            f"{described._repr_html_()}</div></section>\n"
            "<section><h2>Files</h2>\n"
            '<div class="scroll" tabindex="0" role="region" aria-label="Files"><table><thead><tr>'
            '<th scope="col">file</th><th scope="col" class="number">bytes</th></tr></thead>\n'
            f"<tbody>\n{files}</tbody></table></div></section>\n"
        )
        return _document(name, body)

    def _plot(self, revision: Revision) -> bytes:
        # Imported late: few servers draw figures.
        from initcore.report.drawing import report

        found = _layout(revision, self._limits)
        text = report(
            found, revision.model.name, (), _DRAWN, self._backend, self._checkpoints, None
        )
        return text.encode()


def _layout(revision: Revision, limits: Limits) -> Layout:
    plan = revision.model.plan.parse(limits, lambda: None, provenance=True)
    if revision.seed is not None:
        plan = plan.with_seed(revision.seed)
    return layout(plan, limits.max_matrix_elements)


def _file_row(path: str, revision: Revision, file: RepoFile) -> str:
    where = f"/{path}/resolve/{revision.commit}/{quote(file.path)}"
    computed = " (computed)" if isinstance(file.content, Weights) else ""
    return (
        f'<tr><td><a href="{where}">{escape(file.path)}</a>{computed}</td>'
        f'<td class="number">{size_text(file.size)}</td></tr>\n'
    )


def _document(title: str, body: str) -> bytes:
    from initcore.report.document import document

    return document(title, body).encode()
