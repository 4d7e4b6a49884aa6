"""Matplotlib's SVG, made smaller, and made a part of a page."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

# No series may have these: inside a page they follow its theme.
INK, BACKGROUND, LINE = "#1d2023", "#fefefe", "#dcdde0"
METADATA = ("Creator", "Date", "Format", "Type")
# Groups of this id are read in front of whatever they lie on.
HALO = "halo"
_BEHIND = f"stroke: {BACKGROUND}; stroke-width: 3; stroke-linejoin: round; paint-order: stroke"
FONT = "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"


def tidy(text: str, title: str) -> str:
    """Without comments, doctype and empty metadata, coordinates to a hundredth of a point, with a title."""
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE[^>]*>|<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda m: re.sub(r"\d+\.\d{3,}", _hundredth, m[0]), text)
    text = text.replace("font-family: 'DejaVu Sans'; ", "").replace("'DejaVu Sans'", "sans-serif")
    text = text.replace(f'<g id="{HALO}"', f'<g style="{_BEHIND}"')
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"\s*\n\s*", "\n", text).strip()
    head = text.index(">")
    return f'{text[:head]} font-family="{FONT}">\n<title>{escape(title)}</title>{text[head + 1 :]}\n'


def inline(text: str, name: str, title: str) -> str:
    """For inside a page: ids of its own, no rules for the rest of the page, and the colours of its theme."""
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace(INK, "currentColor").replace(BACKGROUND, "var(--paper)").replace(LINE, "var(--line)")
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(title)} ', 1)


def _hundredth(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
