"""The figures as a picture: a panel for each scenario, ours in colour."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import ENTRANTS, OURS
from benchmarks.contest import Row, Rows
from benchmarks.scenario import Scenario, Unit

__all__ = ["draw"]

_COLORS = {"ours": "#0c7a5b", "peer": "#b9c2cc", "limit": "#edf0f3"}
_HATCH = {"ours": None, "peer": None, "limit": "////"}
_WORDS = {
    "ours": "faststream_django",
    "peer": "peers, or ON_COMMIT in memory",
    "limit": "limits, such as a raw socket with frames made beforehand",
}
_INK, _FAINT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_COLUMNS = 2
_WIDTH = 14.2  # inches, as everything here
_LINE, _LINES_OF_A_CURVE = 0.27, 9
_TOP, _BETWEEN = 1.45, 1.0
_NOTE = (
    "Bars are medians of the rounds of one run, in which all contenders took turns on one node; "
    "whiskers are the lowest and the highest round. An arrow marks a bar that is cut."
)
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _INK,
    "hatch.color": "#cbd2d9",
    "hatch.linewidth": 0.7,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a panel stands; inches from the top of the first."""

    scenario: Scenario
    rows: Rows
    column: int
    top: float
    bottom: float


def draw(rows: Rows, where: str) -> bytes:
    """Return the picture as PNG; `where` says what was measured."""
    places = list(_places(rows))
    small_print = textwrap.wrap(f"{_NOTE} {where}", 245)
    height = _TOP + max(place.bottom for place in places) + 0.85 + 0.16 * len(small_print)
    with plt.rc_context(_STYLE):
        figure = plt.figure(figsize=(_WIDTH, height), facecolor="white")
        for place in places:
            left, up = 2.75 + 7.1 * place.column, height - _TOP - place.bottom
            box = (left / _WIDTH, up / height, 3.85 / _WIDTH, (place.bottom - place.top) / height)
            axes = figure.add_axes(box)
            (_bars if place.scenario.chart == "bars" else _curve)(axes, place.rows)
            _dress(axes, place.scenario)
        _head(figure, height)
        figure.text(0.02, 0.2 / height, "\n".join(small_print), fontsize=8, color=_FAINT, linespacing=1.35)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        plt.close(figure)
    return file.getvalue()


def _panels(rows: Rows) -> Iterator[tuple[Scenario, Rows]]:
    """One panel for each scenario; the bulks that run once continue the curve of the shorter ones."""
    panels: list[tuple[Scenario, Rows]] = []
    for scenario, group in groupby(rows, key=lambda row: row.scenario):
        if scenario.name == "growth-long-bulk" and panels and panels[-1][0].name == "growth-bulk":
            panels[-1][1].extend(group)
        else:
            panels.append((scenario, list(group)))
    yield from panels


def _places(rows: Rows) -> Iterator[_Place]:
    """Put each panel below the shorter column."""
    filled = [0.0] * _COLUMNS
    for scenario, panel in _panels(rows):
        column = filled.index(min(filled))
        top = filled[column]
        bottom = top + _LINE * (_LINES_OF_A_CURVE if scenario.chart == "line" else len(panel))
        filled[column] = bottom + _BETWEEN
        yield _Place(scenario=scenario, rows=panel, column=column, top=top, bottom=bottom)


def _head(figure: Figure, height: float) -> None:
    figure.text(
        0.02, 1 - 0.38 / height, "Publishing and consuming, every message confirmed and persistent",
        fontsize=17, fontweight="bold", va="center",
    )  # fmt: skip
    handles = [
        plt.Rectangle((0, 0), 1, 1, facecolor=_COLORS[kind], hatch=_HATCH[kind], label=_WORDS[kind])
        for kind in _COLORS
    ]
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.014, 1 - 0.74 / height), ncols=len(handles),
        frameon=False, fontsize=9.5, handlelength=1.4, columnspacing=2.0,
    )  # fmt: skip


def _bars(axes: Axes, panel: Rows) -> None:
    unit = panel[0].scenario.unit
    panel = sorted(panel, key=lambda row: row.median, reverse=not unit.is_higher_better)
    longest = _longest(panel, unit)
    for place, row in enumerate(panel):
        kind = ENTRANTS[row.contender].kind
        is_cut = row.median > longest
        axes.barh(place, min(row.median, longest * 1.1), height=0.7, color=_COLORS[kind], hatch=_HATCH[kind])
        if not is_cut:
            low, high = _whiskers(row)
            axes.errorbar(
                row.median, place, xerr=[[low], [high]], fmt="none", ecolor=_INK, elinewidth=0.8, capsize=2,
                alpha=0.6,
            )  # fmt: skip
        axes.annotate(
            f"{_short(row.median)} \u2192" if is_cut else _short(row.median),
            (longest * 1.1 if is_cut else max(row.figures), place),
            xytext=(-5 if is_cut else 5, 0), textcoords="offset points",
            va="center_baseline", ha="right" if is_cut else "left", fontsize=8.5, **_emphasis(kind),
        )  # fmt: skip
    axes.set_yticks(range(len(panel)), [ENTRANTS[row.contender].title for row in panel])
    for label, row in zip(axes.get_yticklabels(), panel, strict=True):
        label.set(**_emphasis(ENTRANTS[row.contender].kind))
    axes.set(xlim=(0, longest * 1.18), ylim=(-0.6, len(panel) - 0.4))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda figure, _: f"{figure:,.0f}" if figure >= 100 else f"{figure:g}")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)


def _curve(axes: Axes, panel: Rows) -> None:
    for name in dict.fromkeys(row.contender for row in panel):
        rows = sorted((row for row in panel if row.contender == name), key=_magnitude)
        is_ours = name == OURS
        low, high = zip(*(_whiskers(row) for row in rows), strict=True)
        axes.errorbar(
            [_magnitude(row) for row in rows], [row.median for row in rows], yerr=[low, high],
            color=_COLORS["ours"] if is_ours else "#7b8794", marker="o" if is_ours else "s", markersize=5,
            linewidth=2 if is_ours else 1.4, elinewidth=0.8, capsize=2, label=ENTRANTS[name].title,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(*_ticks(sorted({_magnitude(row) for row in panel})))
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(max(row.figures) for row in panel))
    axes.yaxis.set_major_formatter(lambda figure, _: f"{figure:,.0f}")
    axes.tick_params(axis="y", labelcolor=_FAINT, labelsize=8, length=0)
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_xlabel("threads" if panel[0].workload.way == "threads" else "messages in one call", fontsize=8)
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)


def _dress(axes: Axes, scenario: Scenario) -> None:
    better = "more" if scenario.unit.is_higher_better else "less"
    axes.set_title(scenario.title, loc="left", fontsize=11, fontweight="bold", pad=21, x=0)
    axes.annotate(
        f"{scenario.unit.name.replace('us', 'µs')}, {better} is better",
        (0, 1), xycoords="axes fraction", xytext=(0, 7), textcoords="offset points", fontsize=8.5,
        color=_FAINT,
    )  # fmt: skip
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)


def _longest(panel: Rows, unit: Unit) -> float:
    """Where the bars end: one who is far behind must not make the others look alike."""
    medians = sorted(row.median for row in panel if ENTRANTS[row.contender].kind != "limit")
    usual = 2.5 * medians[len(medians) // 2]
    is_cut = not unit.is_higher_better and len(medians) >= 5
    return max(max(row.figures) for row in panel if not is_cut or row.median <= usual)


def _whiskers(row: Row) -> tuple[float, float]:
    return row.median - min(row.figures), max(row.figures) - row.median


def _ticks(places: list[int]) -> tuple[list[int], list[str]]:
    """Label the places of a logarithmic axis that leave room for one another."""
    gap = 0.12 * math.log(places[-1] / places[0]) if len(places) > 1 else 0
    chosen: list[int] = []
    for place in reversed(places):
        if not chosen or math.log(chosen[-1] / place) >= gap:
            chosen.append(place)
    return chosen, [f"{place:,}" for place in chosen]


def _magnitude(row: Row) -> int:
    return row.workload.at_once if row.workload.way == "threads" else row.workload.count


def _emphasis(kind: str) -> dict[str, str]:
    return {"color": _COLORS["ours"], "fontweight": "bold"} if kind == "ours" else {"color": _INK}


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
