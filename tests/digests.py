"""Digests of the plans that pages, examples and recipes build, compared with those in digests.json.

Every call of their code that returns a plan or a tensor is noted, with the digest of what it
returned. `WRITE_DIGESTS=1 python -m pytest tests/test_digests.py tests/test_pages.py
tests/torch/test_examples.py tests/jax/test_examples.py` writes the file anew; for examples of
launchers, `WRITE_DIGESTS=1 make test-launchers`.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

import initclient as ic
from initcore import layout

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_suffix(".json")
NOTE = "_note_"

# What is measured on data differs by the last bits from machine to machine.
MEASURED = ("lsuv",)


class Notes:
    """The plans and tensors that code has made so far, with their digests, in order."""

    def __init__(self) -> None:
        self.found: list[list[str]] = []

    def compile(self, code: str, title: str, flags: int = 0) -> Any:
        """The code, of which each call passes its result to `note`; names need `NOTE`."""
        tree = ast.fix_missing_locations(_Noting().visit(ast.parse(code, title)))
        return compile(tree, title, "exec", flags)

    def note(self, call: str, result: Any) -> Any:
        """The result as it is, after its digest is noted, if it is a plan or a tensor."""
        plan = ic.Plan({"tensor": result}) if isinstance(result, ic.Tensor) else result
        if isinstance(plan, ic.Plan):
            try:
                found = layout(plan).digest[:32]
            except ic.PlanError:
                found = "refused"
            self.found.append([call, found])
        return result


class _Noting(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        text = ast.unparse(node)
        self.generic_visit(node)
        if any(name in text for name in MEASURED):
            return node
        return ast.Call(ast.Name(NOTE, ast.Load()), [ast.Constant(text), node], [])


def check(source: str, found: list[list[str]]) -> None:
    """Compares what one source builds with the table; the same plan in two calls counts twice.

    Raises:
        AssertionError: naming the source and the first call that builds another plan.
    """
    table = json.loads(TABLE.read_text())
    if os.environ.get("WRITE_DIGESTS"):
        table[source] = found
        lines = ",\n".join(f"{json.dumps(k)}: {_rows(v)}" for k, v in sorted(table.items()))
        TABLE.write_text(f"{{\n{lines}\n}}\n")
        return
    known = table.get(source, [])
    for (call, digest), (old_call, old) in zip(found, known, strict=False):
        if call == old_call and digest != old:
            raise AssertionError(
                f"{source}: {call} builds another plan than before ({digest}, not {old}), so "
                "people who wrote this get other values. If that is meant, list it in "
                "CHANGELOG.md, with the spelling that keeps the old values; then write "
                f"tests/digests.json anew, as {__file__} says"
            )
    assert found == known, (
        f"{source} has other calls than tests/digests.json; where the code of the page changed, "
        f"write the table anew, as {__file__} says. Where only digests differ, list the change in "
        "CHANGELOG.md, with the spelling that keeps the old values"
    )


def _rows(rows: list[list[str]]) -> str:
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]" if rows else "[]"


def run(example: Path, *arguments: str) -> tuple[dict[str, Any], list[list[str]]]:
    """Runs an example as a program, with its arguments: its names, and what it builds."""
    notes, text = Notes(), example.read_text()
    # A program with functions only: `planned` makes its plan.
    is_script = "def planned" not in text
    names: dict[str, Any] = {"__name__": "__main__" if is_script else "example", NOTE: notes.note}
    # The arguments of this program are none of the example's.
    sys.argv = [str(example), *arguments]
    exec(notes.compile(text, str(example)), names)
    if not is_script:
        names["planned"]()
    return names, notes.found


if __name__ == "__main__":
    # Of a program's processes, the first writes what it builds, as JSON.
    out = Path(sys.argv[2])
    _, built = run(Path(sys.argv[1]), *sys.argv[3:])
    if os.environ.get("RANK", "0") == "0":
        out.write_text(json.dumps(built))
