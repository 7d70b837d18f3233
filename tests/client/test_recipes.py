"""Recipes: YAML files that name their source; wrong ones are refused with the reason."""

from __future__ import annotations

import doctest
import math
import pickle
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from initclient import recipes
from initclient.cli import main
from initclient.recipes._formula import FormulaError, parse
from initclient.recipes._quantities import QUANTITIES

NAMES = (
    *("bert", "deepnorm", "deepnorm_encoder_decoder", "densenet", "gpt2", "he", "llama"),
    *("llama_transformers", "megatron", "mup", "resnet", "resnext", "torch", "vit"),
    *("vit_transformers", "wide_resnet", "xavier", "zero"),
)
Capture = pytest.CaptureFixture[str]


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(recipes).failed == 0


def test_every_recipe_prints_its_rules_and_its_source(capsys: Capture) -> None:
    assert recipes.names() == NAMES
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    for name in NAMES:
        recipe = recipes.load(name)
        assert f"\n{name} " in f"\n{listed}"
        assert recipe.summary in listed
        assert recipe.source[0] in listed
        assert main(["recipes", name]) == 0
        page = capsys.readouterr().out
        assert page == f"{recipe}\n"
        for line in (*recipe.source, *recipe.note.splitlines()):
            assert line in page
        for rule in recipe.rules:
            assert rule.where() in page
            assert rule.what() in page
        assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_a_page_reads_well(capsys: Capture) -> None:
    assert main(["recipes", "gpt2"]) == 0
    assert capsys.readouterr().out.endswith("""\
arguments:
  std     0.02; or the model's config.initializer_range
  layers  counted in names, after h

rules, of which the first that matches decides:
   1. *.c_proj.weight
      normal(std=std / sqrt(2 * layers))    # projections into the residual stream
   2. *ln_*.weight
      ones
   3. *bias, when dimensions == 1
      zeros    # not attn.bias, the causal mask in old checkpoints
   4. *weight
      normal(std=std)
""")


def test_the_file_of_a_recipe_is_a_start_for_ones_own(tmp_path: Path, capsys: Capture) -> None:
    own = tmp_path / "own.yaml"
    for name in NAMES:
        assert main(["recipes", name, "--yaml"]) == 0
        own.write_text(capsys.readouterr().out)
        assert recipes.load(own).rules == recipes.load(name).rules
    assert main(["recipes", str(own)]) == 0
    assert capsys.readouterr().out.startswith(f"{own}: ZerO: identities and Hadamard")


def test_what_is_no_recipe_is_status_2(tmp_path: Path, capsys: Capture) -> None:
    assert main(["recipes", "gtp2"]) == 2
    assert "'gtp2' is not known: did you mean 'gpt2'?" in capsys.readouterr().err
    assert main(["recipes", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file" in capsys.readouterr().err
    (tmp_path / "latin.yaml").write_bytes(b"summary: \xe9")
    assert main(["recipes", str(tmp_path / "latin.yaml")]) == 2
    assert "latin.yaml: is not text in UTF-8" in capsys.readouterr().err


def test_the_page_of_the_documentation_holds(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert all(f"`{name}`" in page for name in NAMES)
    assert all(f"`{quantity}`" in page for quantity in QUANTITIES)
    own = tmp_path / "own.yaml"
    own.write_text(page.split("```yaml\n")[1].split("```")[0])
    assert len(recipes.load(own).rules) == 4
    program = page.split("```python\n")[2].split("```")[0]
    known: dict[str, Any] = {}
    exec(program, known)
    assert known["plan"].tensors["transformer.h.0.mlp.c_proj.weight"].std == 0.02 / math.sqrt(24)


HEAD = "{summary: s, source: t, layer_lists: [h], arguments: {scale: 2}, rules: [%s]}"


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        ("3", ["rule 1: is 3; it must be a mapping, such as {name: '*.bias', scheme: zeros}"]),
        ("{scheme: zeros}", ["rule 1: matches by nothing; give one of name, regex, type"]),
        ("{name: [], scheme: zeros}", ["rule 1: name: is []; it must be text, or a list of texts"]),
        ("{name: 1, scheme: zeros}", ["rule 1: name: is 1; it must be text"]),
        (
            "{regex: '(', scheme: zeros}",
            ["rule 1: regex: is '(', which is not a regular expression"],
        ),
        ("{nam: '*', scheme: zeros}", ["rule 1: nam: there is no such field: did you mean 'name'"]),
        ("{name: '*'}", ["rule 1: scheme: is missing: use one of uniform, normal"]),
        (
            "{name: '*', scheme: zero}",
            ["rule 1: scheme: 'zero' is not known: did you mean 'zeros'"],
        ),
        ("{name: '*', scheme: [1]}", ["rule 1: scheme: [1] is not known"]),
        ("{name: '*', scheme: stack}", ["rule 1: scheme: 'stack' is not known"]),
        ("{name: '*', scheme: zeros, std: 1}", ["rule 1: std: is 1.0, but scheme zeros does not"]),
        ("{name: '*', scheme: constant}", ["rule 1: val: is missing; scheme constant needs it"]),
        ("{name: '*', scheme: normal, std: [1]}", ["rule 1: std: is [1]; it must be a number or"]),
        ("{name: '*', scheme: normal, std: true}", ["rule 1: std: is True; it must be a number"]),
        ("{name: '*', scheme: normal, std: .nan}", ["rule 1: std: ", "nan"]),
        (
            "{name: '*', scheme: normal, std: scael * 2}",
            ["rule 1: std: is scael * 2: it has 'scael', which is not known: did you mean 'scale'"],
        ),
        (
            "{name: '*', scheme: normal, std: 2 +}",
            ["rule 1: std: is '2 +', which is not a formula"],
        ),
        (
            "{name: '*', scheme: normal, std: layer ** scale}",
            ["the exponent 'scale'; it must be a"],
        ),
        (
            "{name: '*', scheme: normal, when: scale}",
            ["rule 1: when: has 'scale', which is not a cond"],
        ),
        (
            "{name: '*', scheme: kaiming_normal, mode: fan_inn}",
            ["rule 1: mode: Mode fan_inn not supported, please use one of fan_in, fan_out"],
        ),
        ("{name: '*', scheme: zeros, batch_axes: [0]}", ["rule 1: batch_axes: is [0], but scheme"]),
        (
            "{name: '*', scheme: zeros, must_match: 1}",
            ["rule 1: must_match: is 1; it must be true"],
        ),
        ("{name: '*', scheme: zeros, note: 1}", ["rule 1: note: is 1; it must be text"]),
        (
            "{name: a, scheme: zeros}, {name: b, scheme: eins}, {name: c, scheme: normal, sdt: 1}",
            ["rule 2: scheme: 'eins'", "rule 3: sdt: there is no such field: did you mean 'std'"],
        ),
    ],
)
def test_a_wrong_rule_is_named_with_file_field_value_and_remedy(
    rule: str, parts: list[str], tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(HEAD % rule)
    with pytest.raises(ic.PlanError) as caught:
        recipes.load(own)
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert all(line.startswith(f"{own}: ") for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1]", "has no keys; a recipe has the keys summary, source"),
        ("{a: [1, 2", "is not YAML"),
        ("{summary: s, source: t, rules: []}", "rules: is []; give a list of rules"),
        ("{summary: s, source: t}", "rules: is None; give a list of rules"),
        ("{source: t, rules: [{name: a, scheme: ones}]}", "summary: is missing; say in one line"),
        ("{summary: s, rules: [{name: a, scheme: ones}]}", "source: is missing; say whose"),
        ("{summary: s, summary: t, source: t}", "the key 'summary' is there twice"),
        ("{rule: 1}", "rule: there is no such field: did you mean 'rules'"),
        ("{arguments: [1]}", "arguments: is [1]; it must be a mapping from names to defaults"),
        ("{arguments: {layers: 1}}", "arguments: layers: is not a name for an argument"),
        ("{arguments: {a-b: 1}}", "arguments: a-b: is not a name for an argument"),
        ("{arguments: {lambda: 1}}", "arguments: lambda: is not a name for an argument"),
        ("{arguments: {a: b, b: 1}}", "arguments: a: is b: it has 'b', which is not known"),
        ("{arguments: {a: a}}", "arguments: a: is a: it has 'a', which is not known"),
        ("{arguments: {a: layer}}", "it has layer, which needs layer_lists"),
        ("{layer_lists: 7}", "layer_lists: is 7; it must be text, or a list of texts"),
    ],
)
def test_a_wrong_file_is_said_to_be_one(text: str, part: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ic.PlanError) as caught:
        recipes.load(own)
    assert part in str(caught.value)


def value(text: str, **names: float) -> float:
    return parse(text).value(names.__getitem__)


numbers = st.floats(min_value=-1e6, max_value=1e6).filter(lambda x: abs(x) > 1e-6)


@given(numbers, numbers, numbers)
def test_a_formula_is_its_operations_in_double(a: float, b: float, c: float) -> None:
    names = {"a": a, "b": b, "c": c}
    assert value("a * (b - c) / 7 + -a", **names) == a * (b - c) / 7 + -a
    assert value("max(a, b, min(b, c))", **names) == max(a, b, min(b, c))
    assert value("sqrt(a * a) / b", **names) == math.sqrt(a * a) / b
    assert value("a ** 3", **names) == a * a * a
    assert value("abs_ ** -0.5", abs_=abs(a)) == 1 / math.sqrt(abs(a))
    assert parse("a < b <= c or not b == c", condition=True).holds(names.__getitem__) == (
        a < b <= c or b != c
    )


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "a.b", "a[0]", "lambda: 1", "[1]", "(1, 2)", "'a'", "True", "None"),
        *("a if b else c", "a == b", "a and b", "~a", "a // b", "a % b", "a << b", "a @ b", "1j"),
        *(
            "a := 1",
            "sqrt",
            "sqrt(a, b)",
            "sqrt()",
            "min()",
            "max(a)",
            "sqrt(a=1)",
            "sqrt(*a)",
            "pow(a, 2)",
        ),
        *("a ** b", "2 ** 0.3", "2 ** 65", "2 ** True", "a ** -b", "1e999", str(2**53 + 1)),
        *("", "a b", "a;b", "(" * 150, "-" * 199 + "1" * 2, "a\n=1", "\0", "f'{a}'", "exp(a)"),
    ],
)
def test_a_formula_can_do_nothing_else(text: str) -> None:
    with pytest.raises(FormulaError):
        value(text, a=1.0, b=2.0)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1 / (a - 4)", "is 1 / (a - 4), with a = 4: "),
        ("sqrt(-a)", "is sqrt(-a), with a = 4: "),
        ("1e200 * 1e200 * a", "with a = 4, beyond the range of a double"),
        ("a ** -2 / (a - 4)", "with a = 4"),
    ],
)
def test_a_formula_without_a_value_says_with_what(text: str, part: str) -> None:
    with pytest.raises(FormulaError) as caught:
        value(text, a=4.0)
    assert part in str(caught.value)
