"""The shell of a page: one HTML document without scripts, that loads nothing."""

from __future__ import annotations

from initcore.report.style import style_sheet
from initcore.report.svg import text

# Nothing may be loaded or run, even if a name in the plan holds markup.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, body: str) -> str:
    """A whole page, as HTML that is well-formed XML too.

    Args:
        title: its title, as plain text.
        body: its content, as markup.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        '<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}"/>\n'
        '<meta name="color-scheme" content="light dark"/>\n<link rel="icon" href="data:,"/>\n'
        f"<title>{text(title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
