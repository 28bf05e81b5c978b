"""Uses of measured figures: ratios, percentiles, the table, the plots."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.footprint import rates_between
from benchmarks.growth import Sizes, Trade, as_text, cost_of
from benchmarks.load import BenchmarkError, percentile
from benchmarks.programs import ROOT
from benchmarks.report import (
    BEYOND,
    FIGURES,
    GROWTH,
    REACH,
    SHORT,
    Bound,
    Row,
    fill,
    links,
    pairwise_ratio,
    table,
    write_plots,
)
from benchmarks.site import Curves, LoadPoint, interleaved


def test_a_ratio_is_of_neighbours_so_a_drifting_machine_does_not_show() -> None:
    assert pairwise_ratio([100, 50, 10], [200, 100, 20]) == 0.5


def test_everyone_runs_once_a_round_and_begins_by_turns() -> None:
    order: list[str] = []
    runs = interleaved([lambda name=name: order.append(name) or name for name in "abc"], 3)
    assert "".join(order) == "abcbcacab"
    assert runs == [["a"] * 3, ["b"] * 3, ["c"] * 3]


def test_a_ratio_needs_a_reference_for_every_run() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pairwise_ratio([1, 2], [1])


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, value: float) -> None:
    assert percentile(range(1, 101), percent) == value


@pytest.mark.parametrize(
    ("bound", "value", "mark"),
    [
        (Bound(0.4, 0.6), 0.6, BEYOND),
        (Bound(0.4, 0.6), 0.5, REACH),
        (Bound(0.4, 0.6), 0.39, SHORT),
        (Bound(0.5), 9.0, REACH),
        (Bound(1.8, 1.3, at_most=True), 1.3, BEYOND),
        (Bound(1.8, 1.3, at_most=True), 1.5, REACH),
        (Bound(1.8, 1.3, at_most=True), 1.9, SHORT),
    ],
)
def test_a_bound_marks_how_far_a_figure_gets(bound: Bound, value: float, mark: str) -> None:
    assert bound.mark(value) == mark


def test_a_row_shows_figure_reference_ratio_and_bounds() -> None:
    rate = Row("receipts/s", "1/s", [1000, 1200, 1100], "echo", [2000, 2400, 2200], 0.5, Bound(0.4, 0.6))
    bare = Row("start", "s", [0.7], bound=Bound(1.5, 0.7, unit="s", at_most=True))
    seen = Row("limit", "1/s", [5])
    assert table([rate, bare, seen]).splitlines()[2:] == [
        "| receipts/s | 1,100 1/s (1,000–1,200) | echo: 2,200 1/s (2,000–2,400) | 0.50 × | ≥ 0.4 × | ≥ 0.6 × | reach |",
        "| start | 0.7 s | – |  | ≤ 1.5 s | ≤ 0.7 s | beyond |",
        "| limit | 5 1/s | – |  |  |  |  |",
    ]


def test_rates_are_those_between_samples() -> None:
    assert rates_between([(100, 1.0), (200, 3.0)], stored_before=1000) == [(1100, 100.0), (1200, 50.0)]


def test_plots_are_written_where_there_are_points(tmp_path) -> None:
    write_plots(tmp_path, Curves(load=[LoadPoint(1, 250, 3.1, 6), LoadPoint(64, 1100, 50, 99.5)]))
    (plot,) = tmp_path.iterdir()
    picture = ET.parse(plot)
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"requests in flight", "receipts/s", "latency, ms", "latency p99"} <= texts


def test_costs_grow_with_registers_and_state_with_bridges() -> None:
    sizes = Sizes(500, 700, 800, 2, 6, 1500, journal_bytes=2500, storage_bytes=800, ofd_bytes=2000)
    small, large = (cost_of(Trade("", registers, bridges), sizes) for registers, bridges in ((1, 1), (1000, 10)))
    assert large.receipts_a_s == pytest.approx(1000 * small.receipts_a_s)
    assert large.mb_a_s == pytest.approx((large.receipts_a_s * 2000 + 10 / 30 * 1500) / 1e6)
    assert large.messages_a_s == pytest.approx(large.receipts_a_s * 4 + 10 / 30 * 6)
    assert large.broker_connections == 1010
    assert "| broker connections | 4 | 510 | 400,000 |" in as_text(sizes)


def test_results_go_to_their_place_in_a_page_again_and_again(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- figures: begin (a command --with options) -->\nold\n<!-- figures: end -->\nafter\n")
    for measured in ("| 1 |", "| 2 |"):
        fill(page, "figures", measured)
    text = page.read_text()
    assert text.startswith("# Before\n<!-- figures: begin (a command --with options) -->\n")
    assert text.endswith("| 2 |\n\n<!-- figures: end -->\nafter\n")
    assert "old" not in text
    assert "| 1 |" not in text


def test_a_page_without_the_place_is_refused(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: begin -->\n<!-- growth: end -->\n")
    with pytest.raises(BenchmarkError, match="needs one place"):
        fill(page, "figures", "| 1 |")
    assert page.read_text() == "<!-- figures: begin -->\n<!-- growth: end -->\n"


def test_the_page_on_performance_has_both_places(tmp_path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    for name in (FIGURES, GROWTH):
        fill(page, name, f"results of {name}")
        assert f"results of {name}" in page.read_text(encoding="utf-8")


def test_plots_without_points_are_not_shown() -> None:
    assert links(Curves(rows=[(1, 2.0)])) == ["![Throughput and latency against receipts stored](performance-rows.svg)"]
