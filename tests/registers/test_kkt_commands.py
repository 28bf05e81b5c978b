"""`kkt-bridge sim kkt-dump` and `sim kkt-fault`, as an operator meets them."""

import argparse
import json
import subprocess
import sys

import pytest
from registers.bench import CASHIER, VirtualBench, a_correction, a_job
from support.registers import print_on

from kkt_bridge.cli import sim_kkt_dump, sim_kkt_fault
from kkt_bridge.registers.virtual.faults import FaultSwitch, RegisterFaults, faults_path


@pytest.fixture
def bench(tmp_path):
    made = VirtualBench(tmp_path)
    yield made
    made.register.close()


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_every_document_is_a_line_also_while_the_register_is_in_use(bench, capsys):
    register = bench.register
    register.open_shift(CASHIER)
    mark = print_on(register, a_job()).mark
    print_on(register, a_job(**a_correction("refund")))
    register.close_shift(None)
    assert run(sim_kkt_dump, bench.state) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["type"] for one in shown] == ["registration", "shift_open", "sale", "correction", "shift_close"]
    assert [one["fd_number"] for one in shown] == [1, 2, 3, 4, 5]
    assert [one["form"] for one in shown] == [1, 2, 3, 31, 5]
    assert shown[2] == {
        "fd_number": 3,
        "type": "sale",
        "form": 3,
        "operation": "sale",
        "total": "17891.00",
        "datetime": "2026-11-22T12:03:00+03:00",
        "fiscal_sign": mark.fiscal_sign,
        "requisite_1192": a_job().requisite,
        "shift_number": 1,
        "receipt_number": 1,
        "fn_number": mark.fn_number,
    }
    assert (shown[4]["total"], shown[4]["requisite_1192"], shown[4]["receipt_number"]) == (None, None, None)


@pytest.mark.parametrize("content", [None, b"", b"hello\n", b'{"fd_number":1,"form":1,\n'])
def test_a_file_that_cannot_be_dumped_is_one_line_and_exit_status_1(tmp_path, capsys, content):
    path = tmp_path / "other.txt"
    if content is not None:
        path.write_bytes(content)
    assert run(sim_kkt_dump, path) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"kkt-bridge sim kkt-dump: {path}: ")
    assert output.err.count("\n") == 1


def test_a_reader_that_has_seen_enough_ends_the_dump(bench):
    bench.register.open_shift(CASHIER)
    for _ in range(500):
        print_on(bench.register, a_job())
    command = "import argparse, sys; from kkt_bridge.cli import sim_kkt_dump as command; "
    command += "parser = argparse.ArgumentParser(); command.add_arguments(parser); "
    command += "sys.exit(command.run(parser.parse_args()))"
    with subprocess.Popen(
        [sys.executable, "-c", command, str(bench.state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert json.loads(program.stdout.readline())["fd_number"] == 1
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 0


def test_faults_are_put_in_force_and_taken_back(bench, capsys):
    assert run(sim_kkt_fault, bench.state, "--set", '{"paper_out": true}') == 0
    assert bench.register.status().paper == "out"
    assert run(sim_kkt_fault, bench.state, "--set", '{"busy": true}') == 0
    assert FaultSwitch(bench.state).poll() == RegisterFaults(busy=True)
    assert run(sim_kkt_fault, bench.state, "--clear") == 0
    assert bench.register.status().paper == "ok"
    assert not faults_path(bench.state).exists()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["{", '{"ofline": true}', "[]", '{"busy_next": -1}'])
def test_faults_that_are_not_understood_are_one_line_and_exit_status_1(bench, capsys, content):
    assert run(sim_kkt_fault, bench.state, "--set", content) == 1
    message = capsys.readouterr().err
    assert message.startswith("kkt-bridge sim kkt-fault: --set: ")
    assert message.count("\n") == 1
    assert not faults_path(bench.state).exists()


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert run(sim_kkt_fault, tmp_path / "nowhere" / "kkt.fn", "--set", "{}") == 1
    assert "No such file or directory" in capsys.readouterr().err
