"""Explaining: a finding as text for people."""

from __future__ import annotations

from initclient._laws import composition_lines
from initclient.torch._record.findings import Finding


def explanation(finding: Finding) -> str:
    """What a tensor is, and which lines of code made it, in lines of text."""
    kind = str(finding.dtype).removeprefix("torch.")
    head = f"{finding.name} {list(finding.shape)} {kind}"
    if finding.composition is None:
        lines = [f"{head}: no plan can have it, {finding.reason}", f"  made by: {finding.made}"]
        if finding.source is not None:
            lines.append(f"  at {finding.source}")
        return "\n".join(lines)
    if finding.shares:
        head += f", the same draws as {finding.shares}"
    return "\n".join([f"{head}:", *composition_lines(finding.composition, "  ")])
