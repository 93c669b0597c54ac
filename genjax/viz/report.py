"""One self-contained HTML page: texts, tables, images, curves, code and judged figure rows, added in reading
order.

Nothing is loaded from elsewhere and nothing runs: styles are inline, images are base64 PNGs, curves are
inline SVG, and the page's own content policy forbids the rest. Every text handed in is escaped.
"""

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.viz.atomic import write_file
from genjax.viz.grid import Panel, png_bytes
from genjax.viz.report_style import CSS

CHIPS = {"done": "good", "pass": "good", "failed": "bad", "fail": "bad"}  # status -> colour; others are grey
RELATIONS = {"within": "within the tolerance of it", "at_least": "at least that (less the tolerance)",
             "at_most": "at most that (plus the tolerance)"}
SHEET = 640  # sheets are enlarged by whole numbers up to this many pixels
TINY = 160  # images smaller than this are enlarged with hard pixels


@dataclass(frozen=True)
class Link:
    """A table's cell that leads to another page, e.g. a run's own report beside this one."""

    text: str
    href: str


@dataclass(frozen=True)
class Chip:
    """A table's cell that shows a state as a coloured word (see `CHIPS`)."""

    text: str


class Report:
    """Builds a page from top to bottom; every method but `html` and `save` returns the report itself.

    Example:
      >>> page = Report("demo").section("Numbers").table([{"image": "F16", "PSNR": 30.4}]).html()
      >>> "30.4" in page
      True
    """

    def __init__(self, title: str, subtitle: str = "", status: str | None = None, footer: str = ""):
        """Starts a page.

        Args:
          title: the headline and the browser tab's name.
          subtitle: one line under it, e.g. the command that made the run.
          status: a word beside the title: done and pass are green, failed and fail red, all others grey.
          footer: one line at the end.
        """
        self.title, self.subtitle, self.status, self.footer = title, subtitle, status, footer
        self._parts: list[str] = []
        self._sections: list[tuple[str, str]] = []

    def section(self, title: str) -> "Report":
        """Starts a section; from two on they are listed under the headline."""
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = {a for a, _ in self._sections}
        anchor = next(a for a in (anchor, *(f"{anchor}-{i}" for i in range(2, 10**6))) if a not in taken)
        self._sections.append((anchor, title))
        return self._add(f'<h2 id="{anchor}">{_text(title)}</h2>')

    def text(self, text: str) -> "Report":
        """Adds paragraphs, parted by empty lines; words between backquotes are set as code."""
        paragraphs = [p for p in re.split(r"\n\s*\n", text.strip()) if p.strip()]
        return self._add("".join(f"<p>{_marked(p)}</p>" for p in paragraphs))

    def notebook(self, text: str) -> "Report":
        """Adds a docstring: its first line as a text, the rest as it is set there."""
        first, _, rest = text.strip().partition("\n")
        self.text(first)
        return self.code(rest.strip("\n"), "from the file's docstring: source, commands, what to expect", True) if (
            rest.strip()) else self

    def facts(self, facts: Mapping[str, Any]) -> "Report":
        """Adds a row of tiles, name over value: the handful of numbers to see first."""
        tiles = []
        for name, value in facts.items():
            shown = number(value)
            long = ' class="long"' if len(shown) > 14 else ""
            tiles.append(f"<div><dl><dt>{_text(name)}</dt><dd{long}>{_text(shown)}</dd></dl></div>")
        return self._add(f'<div class="facts">{"".join(tiles)}</div>') if tiles else self

    def table(
        self,
        rows: Iterable[Sequence[Any] | Mapping[str, Any]],
        header: Sequence[str] | None = None,
        title: str = "",
    ) -> "Report":
        """Adds a table.

        Args:
          rows: sequences of cells (values, `Link`s, `Chip`s), or dicts (their keys, in order of appearance, are the
            header).
          header: column names; with dicts, the keys to show.
          title: a line above.

        Numbers stand to the right with four digits; a column is numeric when all its filled cells are.
        """
        rows = list(rows)
        if rows and all(isinstance(r, Mapping) for r in rows):
            header = list(header or dict.fromkeys(k for r in rows for k in r))
            rows = [[r.get(k) for k in header] for r in rows]
        if header and any(len(r) != len(header) for r in rows):
            raise UserError(f"a table row has another number of cells than the header ({len(header)})")
        if not rows:
            return self._add(f'<p>{_text(title)} <span class="chip">no rows</span></p>')
        count = max(len(r) for r in rows)
        numeric = [all(_is_number(r[c]) or r[c] is None for r in rows if c < len(r)) for c in range(count)]
        style = [_classes("number" if n else "") for n in numeric]

        def line(tag, cells):
            return "".join(f"<{tag}{s}>{_cell(v)}</{tag}>" for v, s in zip(cells, style, strict=False))

        body = "".join(f"<tr>{line('td', r)}</tr>" for r in rows)
        return self._table(title, line("th", header) if header else "", body)

    def rows(self, rows: Iterable[Mapping[str, Any]], title: str = "") -> "Report":
        """Adds a figure's verdict: one line per {case, metric, got, expected, tolerance, pass, source}.

        `pass` is True (green), False (red, the value stressed) or None (shown, not judged); keys may be
        absent, and keys beside these become columns of their own before the source.
        """
        rows = list(rows)
        known = ("case", "metric", "got", "expected", "tolerance", "pass", "source")
        more = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in known]
        names = [*known[:6], *more, "source"]
        right = ("got", "expected", "tolerance")
        judged = [bool(r["pass"]) for r in rows if r.get("pass") is not None]
        body = []
        for row in rows:
            verdict = row.get("pass")
            chip = ("", "not judged") if verdict is None else ("good", "pass") if verdict else ("bad", "fail")
            cells = []
            for name in names:
                value = row.get(name)
                if name == "pass":
                    cells.append(f'<td><span class="chip {chip[0]}">{chip[1]}</span></td>')
                    continue
                shown = RELATIONS.get(value, number(value)) if name == "relation" else number(value)
                if name == "tolerance" and _is_number(value):
                    shown = f"± {shown}" if value and row.get("expected") is not None else "–"
                kind = ["number"] if name in right or _is_number(value) else []
                kind += [name] if name in ("got", "source") else []
                cells.append(f"<td{_classes(*kind)}>{_text(shown)}</td>")
            body.append(f"<tr{_classes('bad' if chip[0] == 'bad' else '')}>{''.join(cells)}</tr>")
        head = "".join(f"<th{_classes('number' if n in right else '')}>{_text('' if n == 'pass' else n)}</th>"
                       for n in names)
        if any(r.get("expected") is not None and r.get("pass") is None for r in rows):
            self.text("not judged: the expected number is shown to compare with, it does not pass or fail this figure.")
        if judged:
            chip = "good" if all(judged) else "bad"
            self._add(f'<p><span class="chip {chip}">{sum(judged)} of {len(judged)} pass</span></p>')
        return self._table(title, head, "".join(body))

    def diff(
        self, changes: Iterable[tuple[str, Any, Any]], names: tuple[str, str] = ("parent", "this run")
    ) -> "Report":
        """Adds a table of differences: (key, old, new); None on one side means the key is not there."""
        body = "".join(
            f"<tr><td><code>{_text(k)}</code></td>"
            + "".join("<td>–</td>" if v is None else f"<td><{tag}>{_text(number(v))}</{tag}></td>"
                      for v, tag in ((old, "del"), (new, "ins"))) + "</tr>"
            for k, old, new in changes)
        if not body:
            return self.text(f"No differences between {names[0]} and {names[1]}.")
        return self._table("", "".join(f"<th>{_text(n)}</th>" for n in ("key", *names)), body)

    def images(self, panels: Iterable[Panel | Any], columns: int | None = None, title: str = "") -> "Report":
        """Adds pictures side by side.

        Args:
          panels: `Panel`s, or images alone: [H,W(,1|3|4)] float in [0,1] or uint8, or the bytes of a PNG or GIF.
          columns: pictures per row; None fits as many as are readable. 1 shows each at its own size, as for
            sheets.
          title: a line above.
        """
        figures = []
        for panel in panels:
            panel = panel if isinstance(panel, Panel) else Panel(panel)
            png = panel.image if isinstance(panel.image, bytes) else png_bytes(panel.image)
            width, height, kind = _size(png)
            whole = max(1, SHEET // max(width, height)) if columns == 1 else 1
            tiny = ' class="tiny"' if max(width, height) < TINY or whole > 1 else ""
            tiny += f' style="width: {width * whole}px"' if whole > 1 else ""
            caption = (f"<b>{_text(panel.title)}</b>" if panel.title else "") + _text(panel.caption)
            name = escape(" ".join(t for t in (panel.title, panel.caption) if t) or "image", quote=True)
            figures.append(
                f"<figure{_classes('whole' if columns == 1 else '')}>"
                f'<img{tiny} width="{width}" height="{height}" alt="{name}"'
                f' src="data:image/{kind};base64,{base64.b64encode(png).decode()}">'
                + (f"<figcaption>{caption}</figcaption>" if caption else "") + "</figure>")
        if not figures:
            return self
        if title:
            self._add(f"<h3>{_text(title)}</h3>")
        if columns == 1:
            return self._add("".join(figures))
        tracks = f"repeat({columns}, minmax(0, 1fr))" if columns else "repeat(auto-fill, minmax(200px, 1fr))"
        style = f'style="grid-template-columns: {tracks}"'
        return self._add(f'<div class="figures" {style}>{"".join(figures)}</div>')

    def curves(self, *plots: Mapping[str, Any], **options: Any) -> "Report":
        """Adds line plots as vector graphics that follow the page's colours, two beside each other.

        Args:
          *plots: each a dict of series (see `viz.plots.curves`), or {"series": …, "title": …, "logy": …} with
          that
            function's own options; a plot alone stands wide.
          **options: `viz.plots.curves` options for all plots.
        """
        from genjax.viz.plots import curves

        return self._plots(curves, "series", plots, options)

    def scatter(self, *plots: Mapping[str, Any], **options: Any) -> "Report":
        """Adds point clouds as `curves` adds lines: each {"series": {name: (x, y)}, "title": …, "logx": …}."""
        from genjax.viz.plots import scatter

        return self._plots(scatter, "series", plots, options)

    def parallel(self, *plots: Mapping[str, Any], **options: Any) -> "Report":
        """Adds parallel coordinates: each {"axes": {name: values}, "title": …} (see `viz.plots.parallel`)."""
        from genjax.viz.plots import parallel

        return self._plots(parallel, "axes", plots, options)

    def _plots(self, draw: Callable[..., bytes], what: str, plots: Sequence[Mapping[str, Any]],
               options: Mapping[str, Any]) -> "Report":
        figures = []
        for plot in plots:
            own = dict(plot) if isinstance(plot.get(what), Mapping) else {what: plot}
            own = {"size": (780, 400) if len(plots) == 1 else (520, 340), **options, **own}
            svg = draw(own.pop(what), **own, form="svg").decode()
            name = escape(str(own.get("title") or own.get("ylabel") or draw.__name__), quote=True)
            svg = svg.replace("<svg", f'<svg aria-label="{name}"', 1)
            figures.append(f"<figure{_classes('wide' if len(plots) == 1 else '')}>{svg}</figure>")
        return self._add(f'<div class="plots">{"".join(figures)}</div>') if figures else self

    def code(self, text: str, title: str = "", folded: bool = False) -> "Report":
        """Adds preformatted text; `folded` hides it behind its title until the reader opens it."""
        block = f"<pre>{_text(text.strip(chr(10)))}</pre>"
        if folded:
            return self._add(f"<details><summary>{_text(title or 'show')}</summary>{block}</details>")
        return self._add((f"<h3>{_text(title)}</h3>" if title else "") + f'<div class="code">{block}</div>')

    def html(self) -> str:
        """The whole page."""
        chip = ""
        if self.status:
            chip = f'<span class="chip {CHIPS.get(self.status.lower(), "")}">{_text(self.status)}</span>'
        links = "".join(f'<a href="#{anchor}">{_text(title)}</a>' for anchor, title in self._sections)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy"'
            " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
            f"<title>{_text(self.title)}</title><style>{CSS}</style></head>\n<body><main>"
            f"<header><h1>{_text(self.title)}</h1>{chip}"
            + (f'<p class="subtitle">{_marked(self.subtitle)}</p>' if self.subtitle else "")
            + (f"<nav>{links}</nav>" if len(self._sections) > 1 else "") + "</header>\n"
            + "\n".join(self._parts)
            + (f"\n<footer>{_marked(self.footer)}</footer>" if self.footer else "")
            + "\n</main></body></html>\n")

    def save(self, path: str | Path) -> Path:
        """Writes the page in one step (temporary name, then rename) and returns the path."""
        return write_file(path, self.html())

    def _add(self, part: str) -> "Report":
        self._parts.append(part)
        return self

    def _table(self, title: str, head: str, body: str) -> "Report":
        caption = f"<caption>{_text(title)}</caption>" if title else ""
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        return self._add(f'<div class="card"><table>{caption}{head}<tbody>{body}</tbody></table></div>')


def number(value: Any) -> str:
    """A value as a reader wants it: floats with four digits, None as a dash, booleans as yes and no."""
    if hasattr(value, "tolist"):  # numpy and jax
        value = value.tolist()
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
        plain = f"{value:.4g}"
        return f"{value:.0f}" if "e+" in plain and abs(value) < 1e7 else plain
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _classes(*names: str) -> str:
    names = " ".join(n for n in names if n)
    return f' class="{names}"' if names else ""


def _cell(value: Any) -> str:
    if isinstance(value, Link):
        return f'<a href="{_text(value.href)}">{_text(value.text)}</a>'
    if isinstance(value, Chip):
        return f'<span class="chip {CHIPS.get(value.text.lower(), "")}">{_text(value.text)}</span>'
    return _text(number(value))


def _text(value: Any) -> str:
    return escape(str(value), quote=True)


def _marked(text: str) -> str:
    """Escaped, with `words` between backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _size(image: bytes) -> tuple[int, int, str]:
    """Width, height and "png" or "gif" of an image file's bytes."""
    if image[:4] == b"GIF8":
        return int.from_bytes(image[6:8], "little"), int.from_bytes(image[8:10], "little"), "gif"
    if image[:8] != b"\x89PNG\r\n\x1a\n":
        raise UserError("image bytes handed to a report must be a PNG or GIF file's")
    return int.from_bytes(image[16:20]), int.from_bytes(image[20:24]), "png"
