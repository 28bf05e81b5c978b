"""The command, as far as it goes without measuring anything."""

import pytest

from benchmarks import __main__ as command
from benchmarks.load import BenchmarkError
from benchmarks.site import Site


def test_it_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(command.BENCHMARKS)
    assert set(command.QUICK) <= set(listed)


def test_without_mosquitto_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_mosquitto", lambda: None)
    assert command.main(["--quick"]) == 2
    assert capsys.readouterr().err == "benchmarks: mosquitto is not installed: apt-get install mosquitto\n"


def test_a_part_does_not_go_to_the_page_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--quick", "--page", "docs/performance.md"])
    assert ended.value.code == 2
    assert "--page takes a whole run" in capsys.readouterr().err


def test_a_benchmark_that_fails_gives_no_figures(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_site: Site) -> list:
        raise BenchmarkError("3 answers are missing")

    monkeypatch.setitem(command.BENCHMARKS, "alone", failing)
    assert command.main(["--only", "alone"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 answers are missing" in captured.err
