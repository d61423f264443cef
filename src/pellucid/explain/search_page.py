"""The comparison of layers and networks as one HTML page: the result in words, a chart and a table for each network."""

from __future__ import annotations

from pellucid.evaluation.figures import interval_plot
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.page import figure, render_page, safe, section, table, verdict
from pellucid.explain.search_compare import NetworkScores, SearchComparison, tell

_HOW = (
    "Each picture searches for the others by the vector of one layer, its map averaged over all positions. Of the 15 nearest, "
    "those of the same class count, the nearest most: 100 when all 15 are of it. The query, copies of it and pictures of its group "
    "never count."
)


def render_comparison(found: SearchComparison) -> str:
    """The page as the text of one self-contained HTML file."""
    first = found.networks[0]
    tiles = [
        (
            f"{safe(network.name)}: {safe(network.best.layer)}",
            f"{network.best.score.value:.1f}",
            f"{network.best.score.low:.1f} to {network.best.score.high:.1f}",
        )
        for network in found.networks
    ]
    tiles += [
        ("Chance", f"{found.base_rate:.1f}", "the base rate"),
        ("Pictures", f"{found.n:,}", f"{found.queries:,} of them queries"),
    ]
    sections = [verdict(found.sentences(), found.notes, tiles)]
    sections += [_network(network, found, k) for k, network in enumerate(found.networks)]
    made = {
        "Pictures": found.source,
        "Networks": "; ".join(f"{network.name}: {network.network}" for network in found.networks),
        "Distance": found.distance,
        "Score": _HOW,
    }
    return render_page(f"Nearest pictures by {first.name}", sections, made)


def _network(network: NetworkScores, found: SearchComparison, number: int) -> str:
    rows = [(row.layer, row.width, _share(row.score)) for row in network.layers]
    chart = figure(
        interval_plot(rows, found.base_rate / 100, f"search-{number}", unit=""),
        "Search score of each layer",
        "In the order in which the layers work, with 95 % intervals; in brackets how many numbers a picture has there. The dotted "
        "line is chance.",
    )
    cells = [
        (
            safe(row.layer) + (" · best" if row is network.best and len(network.layers) > 1 else ""),
            f"{row.width:,}",
            tell(row.score),
        )
        for row in network.layers
    ]
    body = f'<p>{safe(network.network)}</p>\n<div class="figures">{chart}{table(("Layer", "Numbers", "Score of 100"), cells)}</div>'
    return section(safe(network.name), body)


def _share(score: Interval) -> Interval:
    return Interval(score.value / 100, score.low / 100, score.high / 100)
