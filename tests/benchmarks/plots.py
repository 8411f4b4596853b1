"""Draws the curves of results.json as SVG; run by the Python of the peers, which has matplotlib."""

import json
import statistics
import sys
from itertools import groupby
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt


def main(directory: Path) -> None:
    """One file for each plot."""
    curves = json.loads((directory / "results.json").read_text(encoding="utf-8"))["curves"]
    for name, group in groupby(curves, key=lambda curve: curve["plot"]):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for curve in group:
            places = [place for place, _ in curve["points"]]
            medians = [statistics.median(values) for _, values in curve["points"]]
            below = [middle - min(values) for middle, (_, values) in zip(medians, curve["points"], strict=True)]
            above = [max(values) - middle for middle, (_, values) in zip(medians, curve["points"], strict=True)]
            axes.errorbar(places, medians, yerr=(below, above), marker="o", capsize=3, label=curve["who"])
            axes.set(xlabel=curve["x_axis"], ylabel=curve["y_axis"], title=name, xscale="log")
            axes.set_xticks(places, [f"{place:,.0f}" for place in places])
            axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        figure.savefig(directory / f"{name.replace(' ', '-')}.svg")
        plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
