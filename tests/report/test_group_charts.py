"""Colours, textures and marks: families and budgets look different in the page and in the files."""

import json
from collections import defaultdict

from drawn_runs import drawn_run, seeds_of, statistics_of
from matplotlib.colors import to_hex

from ripu_lightning.report.chart_types import BarChart, HeatMap, Style
from ripu_lightning.report.matplotlib_charts import draw
from ripu_lightning.report.page.group_charts import charts_of, styles
from ripu_lightning.report.page.plotly_charts import plotly_json

AMOUNTS = (0.01, 0.022, 0.05)


def test_six_strategies_of_three_budgets_look_different() -> None:
    statistics = statistics_of(*(seeds_of(name, 0.5, amount=amount) for name in "abcdef" for amount in AMOUNTS))
    found = styles(statistics.group)
    assert len(set(found.values())) == 18
    colours, textures = defaultdict(set), defaultdict(set)
    for method in statistics.group.methods:
        colours[method.family].add(found[method.label].colour)
        textures[method.budget].add(found[method.label].texture)
    assert len(set.union(*colours.values())) == len(colours) == 6
    assert len(set.union(*textures.values())) == len(textures) == 3
    assert {len(each) for each in (*colours.values(), *textures.values())} == {1}


def test_more_families_than_colours_have_other_marks() -> None:
    found = styles(statistics_of(*(seeds_of(f"s{number}", 0.5) for number in range(20))).group)
    assert len(set(found.values())) == 20


def test_curves_and_budgets_are_drawn_as_the_styles_say() -> None:
    statistics = statistics_of(*(seeds_of(name, 0.5, amount=amount) for name in "ab" for amount in AMOUNTS))
    curves, budgets = (chart for chart in charts_of(statistics, None)[0] if chart.name in {"curves", "budgets"})
    traces = json.loads(plotly_json(curves))["data"]
    in_page = {(trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"]) for trace in traces}
    lines = draw(curves).axes[0].get_lines()
    in_files = {(to_hex(line.get_color()), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(in_page) == len(in_files) == 6
    by_family = {series.label: series.style.colour for series in budgets.panels[0].series}
    families = {method.label: method.family for method in statistics.group.methods}
    assert len(set(by_family.values())) == 2
    assert all(series.style.colour == by_family[families[series.label]] for series in curves.panels[0].series)


def test_bars_of_one_colour_differ_in_their_hatches() -> None:
    series = [(str(texture), Style("#0072b2", texture), [1.0, 2.0]) for texture in range(4)]
    chart = BarChart("bars", "Bars", "note", "%", ["road", "car"], series)
    bars = json.loads(plotly_json(chart))["data"]
    assert len({bar["marker"]["pattern"]["shape"] for bar in bars}) == 4
    assert len({patch.get_hatch() for patch in draw(chart).axes[0].patches}) == 4


def test_classes_named_by_numbers_are_categories() -> None:
    """Else plotly draws them where these numbers, or dates, are."""
    names = ["1", "10", "2024-01-01"]
    bars = json.loads(plotly_json(BarChart("b", "", "", "%", names, [("a", Style("#0072b2"), [1.0, 2.0, 3.0])])))
    heat = json.loads(plotly_json(HeatMap("h", "", "", names, [[1.0, 0.5, 0.0]] * 3)))
    assert bars["layout"]["xaxis"]["type"] == "category"
    assert {heat["layout"][axis]["type"] for axis in ("xaxis", "yaxis")} == {"category"}


def test_methods_without_a_curve_are_named() -> None:
    statistics = statistics_of([drawn_run("a", 1, [0.2, 0.5])], [drawn_run("b", 1, [0.2, 0.5], stages=False)])
    curves = next(chart for chart in charts_of(statistics, None)[0] if chart.name == "curves")
    assert [series.label for series in curves.panels[0].series] == ["a"]
    assert curves.note.endswith("Not drawn, as a seed has no table of rounds: b.")
