"""Curves, point clouds, bars and vector fields with matplotlib's object interface: no pyplot, no globals, one style.

Every function returns the bytes of a PNG, or of an SVG with `form="svg"` whose lettering takes the colour of
the page around it (for reports that follow a light or dark theme).

A series is `y`, or a pair `(x, y)` as a tuple, one-dimensional; points that are NaN or infinite leave a gap,
as do points a logarithmic axis cannot hold.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genjax.errors import UserError, unknown

# Okabe & Ito's palette, distinguishable with every common colour blindness; yellow is left out (invisible on
# white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6FDF")
DASHES = ("-", "--", ":", "-.")  # after the palette's last colour the next line style begins
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_POINTS = 1500  # per curve; more are thinned to the smallest and largest of each stretch
_INK = "#20242c"
_GRID = "#9aa0ab"
_PAPER = "#fffffe"  # what lies behind a drawing; a page sets its own
_DPI = 100


def curves(
    series: Mapping[str, Any],
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    logx: bool = False,
    logy: bool = False,
    levels: Mapping[str, float] | None = None,
    markers: bool = False,
    xlim: tuple[float | None, float | None] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    size: tuple[int, int] = (640, 400),
    scale: float = 2.0,
    form: str = "png",
) -> bytes:
    """Lines over a common x axis.

    Args:
      series: name -> y or (x, y); without x, points are numbered from 0 (from 1 on a logarithmic axis).
      title, xlabel, ylabel: texts, "" for none.
      logx, logy: logarithmic axes.
      levels: name -> y of dashed horizontal lines to compare with, such as a baseline's PSNR.
      markers: also mark every point.
      xlim, ylim: (lowest, highest), None at an end that the data decides.
      size: (width, height) in CSS pixels.
      scale: PNG pixels per CSS pixel (2 is sharp on dense screens).
      form: "png" or "svg".

    Returns:
      The file's bytes.
    """
    figure, axes = _axes(title, xlabel, ylabel, size)
    empty = True
    for i, (name, values) in enumerate(series.items()):
        x, y = _points(name, values, start=1 if logx else 0)
        x, y = _thin(x, np.where(_drawable(x, logx) & _drawable(y, logy), y, np.nan), logx)
        empty &= bool(np.isnan(y).all())
        alone = np.isfinite(y).sum() == 1  # a single point has no line
        axes.plot(x, y, color=PALETTE[i % len(PALETTE)], linestyle=DASHES[i // len(PALETTE) % len(DASHES)],
                  linewidth=1.6, label=_label(name), markersize=4,
                  marker=MARKERS[i % len(MARKERS)] if markers or alone else None)
    for i, (name, level) in enumerate((levels or {}).items()):
        axes.axhline(level, color=_GRID, linewidth=1.3, linestyle=DASHES[1 + i % 3], label=_label(name))
    if logx:
        axes.set_xscale("log")
    if logy:
        axes.set_yscale("log")
    _limits(axes, xlim, ylim)
    return _render(figure, axes, form, scale, legend=len(series) + len(levels or {}) > 1, empty=empty)


def scatter(
    series: Mapping[str, tuple[Any, Any]],
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    logx: bool = False,
    logy: bool = False,
    xticks: Sequence[float] | None = None,
    diagonal: bool = False,
    xlim: tuple[float | None, float | None] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    area: float = 22.0,
    shade: tuple[Any, Any, Any] | None = None,
    legend: bool = True,
    size: tuple[int, int] = (480, 440),
    scale: float = 2.0,
    form: str = "png",
) -> bytes:
    """Points, one marker and colour per series.

    Args:
      series: name -> (x, y).
      xticks: where the x axis is marked; None leaves it to matplotlib.
      diagonal: also draw the line y = x, for got against expected.
      area: of a marker, in square points.
      shade: (x [W], y [H], values [H,W], at least 0) on even axes, such as a density, drawn in greys behind the points.
      legend: name the series, if there are several.
      (others): see `curves`.
    """
    figure, axes = _axes(title, xlabel, ylabel, size)
    finite = []
    if shade is not None:
        # A pixel's middle lies on its value's place: half a step more on each side.
        sides = [float(a[i] + k * (a[1] - a[0]) / 2) for a in shade[:2] for i, k in ((0, -1), (-1, 1))]
        axes.imshow(np.sqrt(np.asarray(shade[2])), cmap="Greys", origin="lower", extent=sides, aspect="auto",
                    interpolation="bilinear", zorder=0)
    for i, (name, values) in enumerate(series.items()):
        x, y = _points(name, values)
        keep = _drawable(x, logx) & _drawable(y, logy)
        finite.append(np.stack([x[keep], y[keep]]))
        axes.scatter(x[keep], y[keep], s=area, color=PALETTE[i % len(PALETTE)],
                     marker=MARKERS[i % len(MARKERS)], alpha=0.85, linewidths=0, label=_label(name))
    points = np.concatenate(finite, 1) if finite else np.zeros((2, 0))
    if diagonal and points.size:
        ends = [points.min(), points.max()]
        axes.plot(ends, ends, color=_GRID, linewidth=1.2, linestyle="--", zorder=0)
    if logx:
        axes.set_xscale("log")
    if logy:
        axes.set_yscale("log")
    if xticks is not None:
        axes.minorticks_off()
        axes.set_xticks(list(xticks), [f"{x:.4g}" for x in xticks])
    _limits(axes, xlim, ylim)
    return _render(figure, axes, form, scale, legend=legend and len(series) > 1, empty=not points.size)


def vector_field(
    field: tuple[Any, Any, Any, Any],
    paths: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    size: tuple[int, int] = (420, 420),
    scale: float = 2.0,
    form: str = "png",
) -> bytes:
    """Arrows over a plane, and paths through it.

    Args:
      field: (x [W], y [H], u [H,W], v [H,W]): places and the vector (u, v) at each. An arrow's length grows with the
        square root of the vector's, so that small ones are seen beside large ones; what is not finite has no arrow.
      paths: name -> (x, y), drawn from a dot to a cross; what leaves the field's frame is cut.
      (others): see `curves`.
    """
    x, y, u, v = (np.asarray(a, np.float64) for a in field)
    if x.ndim != 1 or y.ndim != 1 or u.shape != (y.size, x.size) or v.shape != u.shape or min(x.size, y.size) < 2:
        raise UserError(f"a vector field is x [W], y [H], u [H,W], v [H,W] with W, H > 1; got shapes {x.shape},"
                        f" {y.shape}, {u.shape}, {v.shape}")
    figure, axes = _axes(title, xlabel, ylabel, size)
    length = np.hypot(u, v)
    length = np.where(np.isfinite(length), length, np.nan)
    empty = bool(np.isnan(length).all())
    with np.errstate(invalid="ignore", divide="ignore"):
        shrink = np.where(length > 0, np.sqrt(length / np.nanmax(length, initial=0)) / length, 0)
    cell = min(np.diff(x).min(), np.diff(y).min())
    keep = np.isfinite(length)
    place = np.meshgrid(x, y)
    axes.quiver(place[0][keep], place[1][keep], (u * shrink)[keep] * cell, (v * shrink)[keep] * cell, color=_GRID,
                angles="xy", scale_units="xy", scale=1, pivot="mid", width=0.004, zorder=2)
    for i, (name, values) in enumerate((paths or {}).items()):
        a, b = _points(name, values)
        a, b = (np.where(np.isfinite(a) & np.isfinite(b), w, np.nan) for w in (a, b))
        color = PALETTE[i % len(PALETTE)]
        axes.plot(a, b, color=color, linewidth=1.4, label=_label(name), zorder=3)
        axes.plot(a[:1], b[:1], "o", color=color, markersize=5, zorder=4)
        axes.plot(a[-1:], b[-1:], "X", color=color, markersize=7, markeredgecolor=_PAPER, zorder=5)
    axes.set_aspect("equal")
    _limits(axes, *((w.min() - cell / 2, w.max() + cell / 2) for w in (x, y)))
    return _render(figure, axes, form, scale, legend=len(paths or {}) > 1, empty=empty)


def bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    title: str = "",
    ylabel: str = "",
    logy: bool = False,
    values: bool = True,
    ylim: tuple[float | None, float | None] | None = None,
    size: tuple[int, int] = (640, 400),
    scale: float = 2.0,
    form: str = "png",
) -> bytes:
    """Grouped bars.

    Args:
      groups: group (an image, a device) -> {series (a method): value}; missing or NaN values leave a gap.
      values: write each value over its bar.
      (others): see `curves`. An axis that does not start at 0 exaggerates: set `ylim` knowingly.
    """
    figure, axes = _axes(title, "", ylabel, size)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    wide = 0.8 / max(1, len(names))
    table = np.asarray([[g.get(n, np.nan) for n in names] for g in groups.values()], np.float64)
    table = table.reshape(len(groups), len(names))
    table = np.where(np.isfinite(table), table, np.nan)
    for i, name in enumerate(names):
        x = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * wide
        drawn = axes.bar(x, table[:, i], wide * 0.92, color=PALETTE[i % len(PALETTE)], label=_label(name),
                         hatch=("", "//", "..", "xx")[i // len(PALETTE) % 4])
        if values:
            axes.bar_label(drawn, labels=["" if np.isnan(v) else f"{v:.3g}" for v in table[:, i]], fontsize=8,
                           color=_INK, padding=2)
    axes.set_xticks(range(len(groups)), [_plain(g) for g in groups])
    if sum(len(g) for g in groups) > size[0] / 9:  # names would run into each other
        axes.tick_params(axis="x", labelrotation=35)
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
    axes.grid(False, axis="x")
    if logy:
        axes.set_yscale("log")
    _limits(axes, None, ylim)
    empty = not np.isfinite(table).any()
    return _render(figure, axes, form, scale, legend=len(names) > 1, empty=empty, over=True)


def parallel(
    axes: Mapping[str, Sequence[Any]],
    *,
    title: str = "",
    best: str = "max",
    size: tuple[int, int] = (780, 400),
    scale: float = 2.0,
    form: str = "png",
) -> bytes:
    """Parallel coordinates: an upright axis per name, a line per point; the last axis is the result.

    Args:
      axes: name -> values, one per point. Numbers lie on a linear axis, on a logarithmic one where they are positive
        and span a decade; other values at equal distances in order of appearance. Points whose result is not a
        finite number are left out.
      best: "max" or "min", the end of the last axis whose lines are drawn strongest.
      (others): see `curves`.
    """
    if best not in ("max", "min"):
        raise unknown("end", best, ("max", "min"))
    names = list(axes)
    result = np.asarray([v if _real(v) else np.nan for v in axes[names[-1]]], np.float64)
    points = [i for i in np.argsort(result if best == "max" else -result) if np.isfinite(result[i])]
    figure, plot = _axes(title, "", "", size)
    plot.grid(False)
    for side in ("left", "bottom"):
        plot.spines[side].set_visible(False)
    plot.set_yticks([])
    plot.set_xlim(-0.25, len(names) - 1 + 0.45)
    plot.set_ylim(-0.08, 1.02)
    plot.set_xticks(range(len(names)), [_plain(n) for n in names])
    plot.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False)
    heights = np.zeros((len(names), len(result)))
    for c, name in enumerate(names):
        heights[c], ticks = _upright([axes[name][i] for i in range(len(result))])
        plot.axvline(c, color=_GRID, linewidth=1, zorder=1)
        for height, label in ticks:
            plot.text(c + 0.03, height, _plain(label), fontsize=8, color=_INK, va="center", zorder=4,
                      bbox={"facecolor": _PAPER, "alpha": 0.8, "edgecolor": "none", "pad": 0.6})
    for rank, i in enumerate(points):
        share = rank / max(1, len(points) - 1)
        plot.plot(range(len(names)), heights[:, i], color=PALETTE[1] if rank == len(points) - 1 else PALETTE[0],
                  alpha=0.2 + 0.8 * share**2, linewidth=1 + 1.4 * (rank == len(points) - 1), zorder=2 + share)
    return _render(figure, plot, form, scale, legend=False, empty=not points)


def _real(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def spans_decades(values: Iterable[Any]) -> bool:
    """Whether numbers are all positive and the largest is at least ten times the smallest: for a logarithmic axis."""
    values = [v for v in values if _real(v) and np.isfinite(v)]
    return bool(values) and min(values) > 0 and max(values) >= 10 * min(values)


def _upright(values: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights in [0,1] of the values on an axis of their own, and its marks."""
    if all(_real(v) for v in values):
        x = np.asarray(values, np.float64)
        u = np.log10(x) if spans_decades(values) else x
        low, high = (np.nanmin(u), np.nanmax(u)) if np.isfinite(u).any() else (0, 0)
        y = (u - low) / (high - low) if high > low else np.full(len(u), 0.5)
        marks = sorted(set(x[np.isfinite(x)]))
        if len(marks) > 6:  # the ends and what lies nearest to even heights between them
            marks = sorted({x[np.nanargmin(np.abs(y - h))] for h in np.linspace(0, 1, 5)})
        return y, [(float(y[list(x).index(m)]), f"{m:.4g}") for m in marks]
    places = {v: i for i, v in enumerate(dict.fromkeys(map(str, values)))}
    y = np.asarray([places[str(v)] for v in values]) / max(1, len(places) - 1) if len(places) > 1 else np.full(
        len(values), 0.5)
    return y, [(i / (len(places) - 1) if len(places) > 1 else 0.5, v) for v, i in places.items()]


def _axes(title, xlabel, ylabel, size):
    from matplotlib.figure import Figure  # not at the top: half a second that only a drawing needs

    if len(size) != 2 or min(size) < 50:
        raise UserError(f"size must be (width, height) of at least 50 pixels each, not {tuple(size)}")
    inches = (size[0] / _DPI, size[1] / _DPI)
    figure = Figure(figsize=inches, dpi=_DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    axes = figure.add_subplot(facecolor="white")
    axes.set_title(_plain(title), fontsize=11, fontweight="bold", color=_INK, loc="left")
    axes.set_xlabel(_plain(xlabel), fontsize=9.5, color=_INK)
    axes.set_ylabel(_plain(ylabel), fontsize=9.5, color=_INK)
    axes.tick_params(which="both", labelsize=8.5, colors=_INK, color=_GRID)
    axes.grid(True, color=_GRID, alpha=0.3, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)
    return figure, axes


def _limits(axes, xlim, ylim):
    if xlim:
        axes.set_xlim(*xlim)
    if ylim:
        axes.set_ylim(*ylim)


def _plain(text: Any) -> str:
    """A text drawn as it is: matplotlib would set anything between two dollar signs as a formula."""
    return str(text).replace("$", r"\$")


def _label(name: str) -> str:
    """A legend entry: as `_plain`; a name that starts with "_" would be left out, so a thin space goes before
    it.
    """
    return "\u200a" + _plain(name) if str(name).startswith("_") else _plain(name)


def _points(name: str, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    pair = isinstance(values, tuple) and len(values) == 2 and np.ndim(values[1]) == 1
    x, y = values if pair else (None, values)
    y = np.asarray(y, np.float64)
    x = np.arange(start, start + y.size, dtype=np.float64) if x is None else np.asarray(x, np.float64)
    if y.ndim != 1 or x.shape != y.shape:
        raise UserError(f"series {name!r} must be y or (x, y), one-dimensional and equally long; got shapes"
                        f" {x.shape} and {y.shape}")
    return x, y


def _drawable(values: np.ndarray, log: bool) -> np.ndarray:
    return np.isfinite(values) & ((values > 0) | (not log))


def _thin(x: np.ndarray, y: np.ndarray, logx: bool) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST_POINTS`, keeping the smallest and the largest value of every stretch, so that spikes
    stay.

    Stretches are equally wide on the drawn axis: on a logarithmic one the first steps are not to be merged.
    """
    if y.size <= MOST_POINTS:
        return x, y
    u = np.log10(np.maximum(x, np.finfo(float).tiny)) if logx else x
    if not np.isfinite(u).all() or (np.diff(u) < 0).any() or u[-1] == u[0]:
        u = np.arange(y.size)
    stretches = MOST_POINTS // 2 - 1
    stretch = np.minimum((u - u[0]) / (u[-1] - u[0]) * stretches, stretches - 1).astype(int)
    keep = [0, y.size - 1]
    for part in np.split(np.arange(y.size), np.flatnonzero(np.diff(stretch)) + 1):
        finite = part[np.isfinite(y[part])]
        keep += [finite[np.argmin(y[finite])], finite[np.argmax(y[finite])]] if finite.size else [part[0]]
    index = np.unique(keep)
    return x[index], y[index]


def _render(figure, axes, form: str, scale: float, legend: bool, empty: bool, over=False) -> bytes:
    if form not in ("png", "svg"):
        raise unknown("plot form", form, ("png", "svg"))
    if empty:
        axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", va="center", color=_GRID)
    elif legend:
        entries = len(axes.get_legend_handles_labels()[0])
        place = {"loc": "best", "ncols": 1 + (entries > 8)}
        if over:  # beside the title: within the axes it would hide bars
            place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": min(entries, 6),
                     "columnspacing": 1.2, "borderaxespad": 0.2}
        axes.legend(fontsize=8.5, framealpha=0.85 if form == "png" else 0, edgecolor="none",
                    labelcolor=_INK, **place)
    out = io.BytesIO()
    if form == "png":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure)
        figure.savefig(out, format="png", dpi=_DPI * scale)
        return out.getvalue()
    import matplotlib

    # Letters stay letters (small, selectable); a fixed salt makes equal figures equal bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "genjax"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline_svg(out.getvalue().decode())


def _inline_svg(svg: str) -> bytes:
    """The <svg> element alone, without a prolog, fit to stand in HTML beside others of its kind."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # figure_1, axes_1 … would repeat in every plot of a page
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', svg, count=1)
    svg = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]).replace("\n", ""), svg)
    # Colours a page may set: its ink, and --c0 … for series (blue lines are dim on a dark page).
    for i, colour in enumerate(PALETTE):
        svg = svg.replace(colour.lower(), f"var(--c{i}, {colour.lower()})")
    return svg.replace(_INK, "currentColor").replace(_PAPER, "var(--card, #ffffff)").strip().encode()


def image_of(png: bytes) -> np.ndarray:
    """The pixels of a plot's PNG, uint8 [H,W,3], to place it in a sheet."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
