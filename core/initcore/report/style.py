"""The look of a report: colours for light and dark, and the style sheet."""

from __future__ import annotations

from initcore.resolve import MAX_DEPTH

LIGHT = {
    "ground": "#ffffff",
    "raised": "#f5f7f9",
    "text": "#1b2127",
    "soft": "#4f5a65",
    "rule": "#d3dae1",
    "link": "#0a58b8",
    "bar": "#bfd7f0",
    "edge": "#2a6cb3",
    "ideal": "#b3261e",
    "s0": "#0b62c4",
    "s1": "#b3261e",
    "s2": "#1a7431",
    "s3": "#7a3fd0",
    "s4": "#8a5a00",
    "s5": "#0b6f83",
}
"""Colours where the reader's system is light."""

DARK = {
    "ground": "#0f141a",
    "raised": "#18202a",
    "text": "#e5ebf1",
    "soft": "#a3afbb",
    "rule": "#313b46",
    "link": "#7ab7ff",
    "bar": "#1d4068",
    "edge": "#66abf5",
    "ideal": "#ffab6b",
    "s0": "#6cb0ff",
    "s1": "#ff8f85",
    "s2": "#5fd36f",
    "s3": "#c9a2ff",
    "s4": "#e6b54a",
    "s5": "#4fd0de",
}
"""Colours where it is dark."""

SERIES = 6
"""Lines in one figure that differ in colour and dashes; further ones repeat them."""

_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2")

_RULES = """\
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:20px 16px 64px}
h1{font-size:1.55rem;line-height:1.25;margin:.4em 0 .5em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .6em;padding-bottom:.25em;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:0 0 .1em;overflow-wrap:anywhere}
p{margin:.4em 0;overflow-wrap:anywhere}
a{color:var(--link)}
table+p,.soft,figcaption{color:var(--soft);font-size:.875rem}
code{font-family:ui-monospace,"Cascadia Mono","DejaVu Sans Mono",monospace;font-size:.85em;
overflow-wrap:anywhere}
pre{margin:.8em 0;padding:10px 12px;background:var(--raised);border:1px solid var(--rule);
border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere}
form{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center;margin:.8em 0}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:0}
dl.facts div{background:var(--raised);border:1px solid var(--rule);border-radius:8px;
padding:8px 12px}
dl.facts dt{color:var(--soft);font-size:.8rem}
dl.facts dd{margin:0;font-size:1.1rem;font-weight:600;overflow-wrap:anywhere}
ul.notes{padding-left:1.2em;overflow-wrap:anywhere}
.kind{border:1px solid var(--rule);border-radius:10px;padding:14px 16px;margin:14px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));
gap:8px 24px;margin-top:10px}
figure{margin:0;max-width:480px;min-width:0}
/* A lone figure fills its row with what it says beside it. */
figure:only-child{max-width:none;display:grid;gap:8px 24px;align-items:center;
grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
figure:only-child>svg{max-width:520px}
figure>svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto;max-width:100%}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--rule);
white-space:nowrap;vertical-align:middle}
th{color:var(--soft);font-weight:600}
td.number,th.number{text-align:right;padding-right:20px;font-variant-numeric:tabular-nums}
@media (max-width:600px){
/* Long names leave room for the columns beside them. */
td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:8rem}
th,td{padding-right:8px}
td.number,th.number{padding-right:12px}
td:last-child,th:last-child{padding-right:0}}
summary{cursor:pointer;color:var(--link);padding:6px 0}
.thumb{width:96px;height:30px;display:block}
.key{white-space:nowrap;margin-right:10px}
.mark{width:20px;height:12px;margin-right:5px;vertical-align:-1px}
.tick{fill:var(--soft);font-size:11px;font-family:system-ui,sans-serif}
.label{paint-order:stroke;stroke:var(--ground);stroke-width:3px;stroke-linejoin:round}
.axis{fill:none;stroke:var(--soft);stroke-width:1}
.grid{fill:none;stroke:var(--rule);stroke-width:1}
.bars{fill:var(--bar);stroke:var(--edge);stroke-width:1}
.ideal{fill:none;stroke:var(--ideal);stroke-width:2}
.spike{fill:none;stroke:var(--edge);stroke-width:3}
.dot{fill:var(--edge)}
.line{fill:none;stroke-width:2}
@media print{details>*{display:block}.kind{break-inside:avoid}}
"""


def style_sheet() -> str:
    """The style sheet of the page."""
    lines = [f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"]
    lines.append(f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}")
    for number, dashes in enumerate(_DASHES):
        lines.append(f".line.s{number}{{stroke:var(--s{number});stroke-dasharray:{dashes}}}")
        lines.append(f".end.s{number}{{fill:var(--s{number})}}")
    lines += [f"td.d{depth}{{padding-left:{depth}.2em}}" for depth in range(1, MAX_DEPTH + 1)]
    return "\n".join([_RULES, *lines]) + "\n"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
