"""The report page: well-formed, self-contained, complete, with the right figures."""

from __future__ import annotations

import doctest
import hashlib
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initclient._inspect import page as _plot
from initclient.cli import main
from initcore import layout
from initcore.report import Flow, LayerFlow
from initcore.report.densities import ideal_of
from initcore.report.histograms import histogram
from initcore.report.kinds import kinds
from initcore.report.spectra import marchenko_pastur
from initcore.report.style import DARK, LIGHT, SERIES, style_sheet
from initcore.report.svg import log_ticks, ticks
from safetensors.numpy import save_file

RECIPES = ("torch", "he", "xavier")
PLAN = ic.Plan(
    {
        "wte.weight": ic.normal((600, 64), std=0.02, dtype="BF16", zero_rows=(0,)),
        **{f"h.{i}.fc.weight": ic.kaiming_uniform((96, 64)) for i in range(3)},
        **{f"h.{i}.fc.bias": ic.zeros((96,)) for i in range(3)},
        "h.0.rnn.weight": ic.orthogonal((64, 64), gain=0.5),
        "h.0.cut": ic.trunc_normal((64, 64), std=0.02, a=-0.04, b=0.04, dtype="F8_E4M3"),
        "h.0.sparse": ic.sparse((50, 40), sparsity=0.3),
        "qk.weight": ic.concatenate({"q": ic.normal((32, 64)), "k": ic.normal((8, 64), std=3.0)}),
        "conv": ic.dirac((16, 16, 3)),
        "body": ic.pretrained((4, 4), "a.safetensors", sha256="0" * 64),
        "one": ic.ones((64, 64)),
        "empty": ic.normal((0, 4)),
        "steps": ic.zeros((), dtype="I64"),
    },
    seed=7,
)
FIGURES = [
    *("Outputs", "Gradients"),
    *("Values of wte.weight", "Singular values of wte.weight"),
    *("Values of h.0.fc.weight", "Singular values of h.0.fc.weight"),
    *("Values of h.0.rnn.weight", "Singular values of h.0.rnn.weight"),
    *("Values of h.0.cut", "Singular values of h.0.cut"),
    *("Values of h.0.sparse", "Singular values of h.0.sparse"),
    *("Values of qk.weight", "Singular values of qk.weight"),
    "Singular values of conv",
]


def flows() -> dict[str, Flow]:
    def layers(rate: float) -> tuple[LayerFlow, ...]:
        names = [f"layers.{i}" for i in range(12)]
        return tuple(
            LayerFlow(name, "Linear", 0.0, rate**i, 0.0, rate ** (11 - i))
            for i, name in enumerate(names)
        )

    rates = zip(RECIPES, (0.4, 1.0, 0.7), strict=True)
    return {name: Flow(name, layers(rate)) for name, rate in rates}


def report(folder: Path) -> Path:
    return ic.plot(PLAN, folder / "report.html", flows=flows(), title="The plan", backend="numpy")


def parsed(path: Path) -> ElementTree.Element:
    """The page's elements, without namespaces."""
    root = ElementTree.fromstring(path.read_text("utf-8"))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def words(element: ElementTree.Element | None) -> str:
    return "" if element is None else "".join(element.itertext())


def test_every_figure_is_there_with_a_title_and_a_description(tmp_path: Path) -> None:
    root = parsed(report(tmp_path))
    drawn = root.findall(".//figure/svg")
    assert sorted(words(svg.find("title")) for svg in drawn) == sorted(FIGURES)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) == 2 * len(FIGURES)
    for svg in drawn:
        assert svg.get("role") == "img"
        assert svg.get("aria-labelledby", "").split() == [
            svg.find(tag).get("id")  # type: ignore[union-attr]
            for tag in ("title", "desc")
        ]
        assert len(words(svg.find("desc"))) > 20
        kinds_of_marks = {mark.get("class", "").split()[0] for mark in svg if mark.get("class")}
        assert kinds_of_marks & {"bars", "dot", "line"}


def test_every_tensor_and_every_total_is_there(tmp_path: Path) -> None:
    text = words(parsed(report(tmp_path)))
    described = ic.describe(PLAN)
    assert all(name in text for name in [*PLAN.tensors, "The plan", described.digest])
    assert f"{sum(math.prod(t.shape) for t in PLAN.tensors.values()):,}" in text
    assert all(line in text for line in (*described.remarks, *described.warnings))
    assert "no folder of checkpoints is given, which would have a.safetensors" in text


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    root = parsed(report(tmp_path))
    assert not {element.tag for element in root.iter()} & {"script", "img", "iframe", "object"}
    links = [(e.tag, k, v) for e in root.iter() for k, v in e.attrib.items() if k in LINKS]
    assert links == [("link", "href", "data:,")]
    assert not [k for e in root.iter() for k in e.attrib if k.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", style_sheet())
    (policy,) = [e.get("content") for e in root.iter("meta") if e.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


LINKS = ("src", "href", "srcset", "data", "action", "{http://www.w3.org/1999/xlink}href")


def test_the_same_plan_gives_the_same_page(tmp_path: Path) -> None:
    first = report(tmp_path).read_bytes()
    assert report(tmp_path).read_bytes() == first


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_told_apart(colours: dict[str, str]) -> None:
    # WCAG 2.2: 4.5 for text, 3 for what a figure is made of.
    for ground in ("ground", "raised"):
        assert min(contrast(colours[c], colours[ground]) for c in ("text", "soft", "link")) >= 4.5
    marks = ("edge", "ideal", *(f"s{number}" for number in range(SERIES)))
    assert min(contrast(colours[mark], colours["ground"]) for mark in marks) >= 3.0
    assert contrast(colours["ideal"], colours["bar"]) >= 3.0
    assert contrast(colours["edge"], colours["bar"]) >= 3.0


def test_every_colour_that_is_used_is_defined_in_both_schemes() -> None:
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", style_sheet()))
    assert used == set(LIGHT) == set(DARK)


IDEALS = {
    "normal": ic.normal((400, 250), mean=0.5, std=0.1),
    "zero rows": ic.normal((400, 250), zero_rows=tuple(range(100))),
    "uniform": ic.uniform((400, 250), -1.0, 3.0),
    "bf16": ic.kaiming_uniform((400, 250), dtype="BF16"),
    "float8": ic.trunc_normal((400, 250), std=0.5, a=-0.4, b=1.2, dtype="F8_E4M3"),
    "sparse": ic.sparse((400, 250), sparsity=0.6, std=0.3),
    "orthogonal": ic.orthogonal((400, 250), gain=2.0),
    "few rows": ic.orthogonal((12, 9)),
    "delta": ic.delta_orthogonal((60, 50, 3)),
    "stack": ic.stack({"a": ic.normal((200, 250)), "b": ic.uniform((200, 250), 2.0, 3.0)}),
    "mixed": ic.concatenate({"a": ic.normal((100, 250)), "b": ic.zeros((300, 250))}),
}


@pytest.mark.parametrize("name", IDEALS)
def test_values_are_drawn_from_the_density_that_is_shown(name: str) -> None:
    plan = {"w": IDEALS[name]}
    (entry,) = layout(ic.Plan(plan, 5)).entries
    ideal = ideal_of(entry.tensor)
    assert ideal is not None
    values = ic.fetch(plan, seed=5, target="local")["w"].astype(np.float64).ravel()
    found = histogram(values, entry.tensor.dtype.name, ideal, 40)
    widths, n = np.diff(found.edges), len(values)
    # The density's mean over each bin, where it may jump.
    points = found.edges[:-1, None] + widths[:, None] * (np.arange(500) + 0.5) / 500
    expected = widths * ideal.density(points).mean(axis=1)
    shares = found.density * widths
    noise = 5 * np.sqrt(np.maximum(expected, 1 / n) / n)
    # The outermost bins of a narrow type reach beyond the bounds by part of a value's cell.
    inside = slice(1, -1) if entry.tensor.dtype.itemsize < 4 else slice(None)
    assert (np.abs(shares - expected) <= noise + 0.01 * expected)[inside].all()
    assert shares.sum() + found.outside + sum(s for _, s in found.atoms) == pytest.approx(1.0)
    assert [s for _, s in found.atoms] == pytest.approx([s for _, s in ideal.atoms], abs=0.01)
    assert values.mean() == pytest.approx(ideal.mean, abs=6 * ideal.std / math.sqrt(n))
    assert values.std() == pytest.approx(ideal.std, rel=0.02 if n > 1000 else 0.1)


@pytest.mark.parametrize("shape", [(200, 200), (300, 60), (40, 500)])
def test_singular_values_of_normals_follow_the_law_that_is_shown(shape: tuple[int, int]) -> None:
    values = ic.fetch({"w": ic.normal(shape)}, seed=1, target="local")["w"]
    found = np.linalg.svd(values.astype(np.float64), compute_uv=False)
    expected = marchenko_pastur(*shape)
    assert found == pytest.approx(expected, abs=0.05 * found.max())
    assert (expected**2).sum() == pytest.approx(math.prod(shape), rel=0.02)


def test_layers_that_repeat_are_one_kind() -> None:
    tensors = {f"h.{i}.{n}": ic.normal((8, 8)) for i in range(40) for n in ("a", "b")}
    plan = ic.Plan({**tensors, "h.40.a": ic.normal((8, 4)), "out": ic.normal((8, 8))})
    found = [(kind.name, len(kind.entries)) for kind in kinds(layout(plan).entries)]
    assert found == [("h.*.a", 40), ("h.*.b", 40), ("h.40.a", 1), ("out", 1)]


def test_a_plan_of_many_layers_has_few_figures_and_every_tensor(tmp_path: Path) -> None:
    tensors = {f"h.{i}.{n}.weight": ic.normal((16, 8)) for i in range(100) for n in "abc"}
    told: list[tuple[int, int]] = []
    path = ic.plot(tensors, tmp_path / "r.html", max_tensors=50, progress=lambda *p: told.append(p))
    root = parsed(path)
    assert len(root.findall(".//figure")) == 6
    assert len(root.findall(".//svg[@class='thumb']")) == 50
    text = words(root)
    assert all(name in text for name in tensors)
    assert told[-1][0] == told[-1][1] > 0
    assert len(path.read_bytes()) < 400_000


def test_a_huge_plan_is_cheap(tmp_path: Path) -> None:
    # Three terabytes: what is made are samples.
    plan = {
        "w": ic.normal((1 << 20, 1 << 20), dtype="BF16"),
        "q": ic.orthogonal((1 << 14, 1 << 14)),
        "g": ic.apply({"n": ic.norm({"w": ic.normal((1 << 20, 1 << 20))}, axes=0)}, "abs"),
    }
    text = words(parsed(ic.plot(plan, tmp_path / "r.html")))
    assert "99,968 values" in text
    assert "a matrix of 16384 x 16384 would have to be made whole" in text
    assert "its norms take 104,857,600,000 elements" in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "a\x00b\x1b[1m", "\"&'", "]]>", "\ufffe", "ünïcödé"]
    root = parsed(ic.plot({name: ic.normal((4, 4)) for name in names}, tmp_path / "r.html"))
    shown = [words(h3) for h3 in root.iter("h3")]
    assert shown == [names[0], "a?b?[1m", names[2], names[3], "?", names[5]]


def test_values_of_a_checkpoint_are_shown_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ic.fetch_file({"w": ic.normal((40, 20))}, tmp_path / "a.safetensors", target="local")
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", str(tmp_path))
    sha256 = hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    plan = {"w": ic.pretrained((40, 20), "a.safetensors", sha256=sha256)}
    root = parsed(ic.plot(plan, tmp_path / "r.html"))
    titles = [words(title) for title in root.findall(".//figure/svg/title")]
    assert titles == ["Values of w", "Singular values of w"]
    monkeypatch.delenv("INITSERVE_CHECKPOINTS")
    again = ic.plot(plan, tmp_path / "again.html", checkpoints=tmp_path, title="Plan")
    assert again.read_bytes() == (tmp_path / "r.html").read_bytes()
    with pytest.raises(ic.PlanError, match="'w'"):
        ic.plot({"w": ic.pretrained((20, 40), "a.safetensors")}, again, checkpoints=tmp_path)


def test_a_checkpoint_with_values_that_are_not_finite_is_shown_all_the_same(
    tmp_path: Path,
) -> None:
    values = np.ones((40, 20), np.float32)
    values[3, 5] = np.nan
    save_file({"w": values}, tmp_path / "a.safetensors")
    sha256 = hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    plan = {"w": ic.pretrained((40, 20), "a.safetensors", sha256=sha256)}
    root = parsed(ic.plot(plan, tmp_path / "r.html", checkpoints=tmp_path))
    titles = [words(title) for title in root.findall(".//figure/svg/title")]
    assert titles == ["Values of w"]


@pytest.mark.parametrize("values", [[1.7e308, -1.7e308], [1.7e308, 1.7e308], [1e308, 0, 3]])
def test_values_near_the_largest_double_are_shown_all_the_same(
    values: list[float], tmp_path: Path
) -> None:
    tensor = ic.literal((len(values),), values, dtype="F64")
    page = ic.plot(ic.Plan({"far": tensor}), tmp_path / "plan.html")
    assert f"mean {np.mean([v / 4 for v in values]) * 4:.3g}, std " in page.read_text("utf-8")


def test_a_folder_of_checkpoints_need_not_exist_where_none_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_CHECKPOINTS", "/nowhere")
    assert ic.plot({"w": ic.normal((4, 4))}, tmp_path / "r.html").exists()


def test_a_model_without_torch_is_told_what_to_install(tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    code = (
        "import sys; sys.modules['torch'] = None; from initclient.cli import main; "
        f"sys.exit(main(['plot', {plan!r}, '-o', {str(tmp_path / 'r')!r}, "
        "'--model', 'os:getcwd', '--batch', 'os:getcwd']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_arguments_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    with pytest.raises(ValueError, match="max_tensors is -1"):
        ic.plot(PLAN, path, max_tensors=-1)
    with pytest.raises(ValueError, match="flows holds 'x'"):
        ic.plot(PLAN, path, flows=["x"])  # type: ignore[list-item]
    with pytest.raises(ic.PlanError, match="std"):
        ic.plot({"w": ic.normal((2,), std=-1.0)}, path)
    assert not list(tmp_path.iterdir())
    told: list[int] = []
    with pytest.raises(FileNotFoundError, match="none"):
        ic.plot(PLAN, tmp_path / "none" / "r.html", progress=lambda done, total: told.append(done))
    assert not told, "before the work"


def test_signals_that_vanish_or_explode_leave_gaps(tmp_path: Path) -> None:
    stds = (1.0, 1e-30, 0.0, math.inf, math.nan, 1e30)
    layers = tuple(LayerFlow(f"l{i}", "Linear", 0.0, s, 0.0, math.nan) for i, s in enumerate(stds))
    root = parsed(ic.plot({"w": ic.zeros((2,))}, tmp_path / "r.html", flows=[Flow("x", layers)]))
    outputs, gradients = root.findall(".//figure")
    assert len(outputs.findall(".//circle[@class='end s0']")) == 3
    assert "3 of the values are zero, infinite or not there" in words(outputs)
    assert not gradients.findall(".//circle")


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.03, 0.07), (1e-9, 3e-9), (-5e6, 1e7)])
def test_axes_have_a_few_round_values(bounds: tuple[float, float]) -> None:
    found = ticks(*bounds)
    assert 2 <= len(found) <= 7
    assert all(float(label) == pytest.approx(value) for value, label in found)
    assert all(len(label) <= 7 for _, label in found)
    for span in (0.5, 2.0, 5.0, 60.0):
        logs = log_ticks(-3.2, -3.2 + span)
        assert 1 <= len(logs) <= 12
        assert all(10**value == pytest.approx(float(label)) for value, label in logs)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, out = str(tmp_path / "plan.yaml"), tmp_path / "report.html"
    ic.dump_plan(PLAN, plan)
    assert main(["plot", plan, "-o", str(out), "--seed", "3", "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    expected = tmp_path / "same.html"
    ic.plot(PLAN, expected, seed=3, title="Plan plan.yaml", backend="numpy")
    assert out.read_bytes() == expected.read_bytes()
    assert main(["plot", plan, "-o", str(out), "--model", "a:b"]) == 2
    assert "--model and --batch belong together" in capsys.readouterr().err
    assert main(["plot", plan, "-o", str(out), "--recipe", "he"]) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("os:sep", "not a function"),
        ("os:getcwd", "no torch module"),
        ("..os:getcwd", "MODULE:FUNCTION"),
        ("os:nothing", "no attribute"),
    ],
)
def test_a_model_that_is_none_is_told(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = str(tmp_path / "plan.yaml")
    ic.dump_plan(PLAN, plan)
    arguments = ["plot", plan, "-o", str(tmp_path / "r.html")]
    assert main([*arguments, "--model", text, "--batch", "os:getcwd"]) == 2
    assert why in capsys.readouterr().err


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(_plot).failed == 0
