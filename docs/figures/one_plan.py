"""Draws docs/figures/one_plan.svg, the picture of the README: one plan, cut in four ways.

python docs/figures/one_plan.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
DIGEST = "28fc084efc4f0c49"  # of the table in docs/layouts.md

# Each layout: its name, who makes the values, and into how many rows and columns a weight is cut.
LAYOUTS = [
    ("one process", "on a CPU", 1, 1),
    ("FSDP2, 4 ranks", "each makes its rows", 4, 1),
    ("FSDP2 x TP, 2 x 2", "each makes its block", 2, 2),
    ("JAX, 8 devices", "columns, from a server", 1, 8),
]
SIDE, GAP, LEFT, TOP = 120, 64, 24, 96
WIDTH = 2 * LEFT + len(LAYOUTS) * SIDE + (len(LAYOUTS) - 1) * GAP
HEIGHT = 296

STYLE = """
text { font: 14px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; }
.code { font-family: ui-monospace, monospace; }
.small { font-size: 12px; fill: #59636e; }
.line { stroke: #59636e; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .small { fill: #9198a1; }
  .line { stroke: #9198a1; }
}
"""


def shards(left: int, rows: int, columns: int) -> Iterator[str]:
    """A weight, cut into rows and columns, each part in a shade of its own."""
    for row in range(rows):
        for column in range(columns):
            hue = 200 + 140 * (row * columns + column) // max(rows * columns, 1)
            yield (
                f'<rect x="{left + column * SIDE // columns}" y="{TOP + 44 + row * SIDE // rows}" '
                f'width="{SIDE // columns - 2}" height="{SIDE // rows - 2}" rx="2" '
                f'fill="hsl({hue} 60% 55%)"/>'
            )


def text(x: int, y: int, words: str, kind: str = "", anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{words}</text>'


def picture() -> str:
    """The whole picture, as SVG for light and dark pages."""
    middle = WIDTH // 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="One plan gives the same bits in four layouts">',
        f"<style>{STYLE}</style>",
        f'<rect class="line" x="{middle - 210}" y="8" width="420" height="34" rx="6"/>',
        text(middle, 30, "seed 7 + fc.weight + position + kaiming_normal", "code"),
    ]
    for number, (name, by, rows, columns) in enumerate(LAYOUTS):
        left = LEFT + number * (SIDE + GAP)
        center = left + SIDE // 2
        lines += [
            f'<path class="line" d="M {middle} 42 '
            f'C {middle} 64, {center} 52, {center} {TOP - 16}"/>',
            text(center, TOP + 8, name),
            text(center, TOP + 28, by, "small"),
            *shards(left, rows, columns),
        ]
    lines += [text(middle, HEIGHT - 12, f"SHA-256 of all weights, four times: {DIGEST}...", "code")]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    (HERE / "one_plan.svg").write_text(picture(), "utf-8")
