"""The results as a picture: SVG written by hand, because twenty bars are no reason for a plotting library of 60 MB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from table import Summary

COLOURS = {"txmta": "#2a6f97", "postfix": "#e09f3e", "exim": "#7a9e7e", "sendmail": "#9a8c98"}
WIDTH, LABEL_WIDTH, BAR_HEIGHT, GAP = 900, 110, 16, 26
PANEL_GAP = 70
_TEXT = 'font-family="sans-serif" fill="#222"'


@dataclass(frozen=True, slots=True)
class Bar:
    """`low` and `high`: the spread, drawn as a whisker where it is one."""

    name: str
    value: float
    low: float
    high: float
    text: str


def picture(groups: Mapping[str, Mapping[str, Summary]], title: str, subtitle: str) -> str:
    """One group a workload; messages a second on the left, CPU of a message on the right."""
    rates = {
        workload: [
            Bar(name, of.per_second, of.slowest, of.fastest, f"{of.per_second:.0f}") for name, of in summaries.items()
        ]
        for workload, summaries in groups.items()
    }
    costs = {
        workload: [Bar(name, of.cpu_ms, of.cpu_ms, of.cpu_ms, f"{of.cpu_ms:.2f}") for name, of in summaries.items()]
        for workload, summaries in groups.items()
    }
    half = (WIDTH - PANEL_GAP) // 2
    height = 90 + sum(len(bars) * BAR_HEIGHT + GAP for bars in rates.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-size="17" {_TEXT}>{escape(title)}</text>',
        f'<text x="10" y="43" font-size="11" {_TEXT}>{escape(subtitle)}</text>',
        *_panel(rates, 10, half, "messages a second (median, spread)"),
        *_panel(costs, 10 + half + PANEL_GAP // 2, half, "CPU ms a message"),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _panel(groups: Mapping[str, Sequence[Bar]], left: int, width: int, title: str) -> list[str]:
    parts = [f'<text x="{left}" y="66" font-size="13" font-weight="bold" {_TEXT}>{escape(title)}</text>']
    y = 80
    for workload, bars in groups.items():
        # Each workload has a scale of its own: 1 KB and 5 MB don't fit on one.
        scale = (width - LABEL_WIDTH - 60) / max([bar.high for bar in bars] + [1e-9])
        parts.append(f'<text x="{left}" y="{y + 10}" font-size="11" {_TEXT}>{escape(workload)}</text>')
        for bar in bars:
            parts += _bar(bar, left + LABEL_WIDTH, y, scale)
            y += BAR_HEIGHT
        y += GAP
    return parts


def _bar(bar: Bar, x: int, y: int, scale: float) -> list[str]:
    length, middle = bar.value * scale, y + (BAR_HEIGHT - 3) / 2
    colour = COLOURS.get(bar.name, "#888")
    parts = [f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT - 3}" fill="{colour}"/>']
    if bar.high > bar.low:
        low, high = x + bar.low * scale, x + bar.high * scale
        parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222" stroke-width="1.5"/>')
    end = x + max(bar.high * scale, length) + 4
    label = f"{bar.text} {bar.name}"
    parts.append(f'<text x="{end:.1f}" y="{y + 11}" font-size="10" {_TEXT}>{escape(label)}</text>')
    return parts
