"""The faults file: what may stand in it, and how a running register notices."""

import json
import os

import pytest
from registers.bench import VirtualBench, a_job
from support.registers import print_on

from kkt_bridge.registers.virtual.faults import (
    FaultSwitch,
    InvalidRegisterFaults,
    RegisterFaults,
    clear_faults,
    faults_path,
    write_faults,
)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "kkt-1.fn"


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"ofline": True}, "ofline: unknown fault; known are offline, busy"),
        ({"offline": 1}, "offline: "),
        ({"busy_next": -1}, "busy_next: "),
        ({"busy_next": 1.5}, "busy_next: "),
        ({"refuse_names": "x"}, "refuse_names: "),
        ({"refuse_names": [1]}, "refuse_names.0: "),
        ({"power_cut": {"at": "lunch"}}, "power_cut.at: "),
        ({"power_cut": {"times": 1}}, "power_cut.at: "),
        ({"power_cut": {"at": "open", "when": 1}}, "power_cut.when: unknown fault"),
        ({"print_time_s": -1}, "print_time_s: "),
        ({"clock_offset_s": float("nan")}, "clock_offset_s: "),
        ([], ""),
    ],
)
def test_faults_that_are_not_understood_are_refused_in_one_line_and_change_nothing(state, faults, message):
    write_faults(state, {"busy": True})
    with pytest.raises(InvalidRegisterFaults) as error:
        write_faults(state, faults)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert FaultSwitch(state).poll() == RegisterFaults(busy=True)


def test_all_faults_can_be_written_and_read(state):
    faults = {
        "offline": True,
        "busy": True,
        "busy_next": 1,
        "paper_out": True,
        "paper_out_after": 0,
        "refuse_next": 1,
        "refuse_names": ["Ёж"],
        "fn_exhausted": True,
        "power_cut": {"at": "after_close", "times": 3},
        "lose_answer_next": 1,
        "clock_offset_s": -5,
        "print_time_s": 0.5,
    }
    assert faults.keys() == RegisterFaults.model_fields.keys()
    write_faults(state, faults)
    assert json.loads(FaultSwitch(state).poll().model_dump_json()) == faults
    assert [entry.name for entry in state.parent.iterdir()] == ["kkt-1.fn.faults"], "no draft is left"


def test_a_change_is_seen_by_the_next_command_also_one_of_the_same_size(state):
    switch = FaultSwitch(state)
    assert switch.poll() == RegisterFaults()
    for count in (1, 2, 3, 4):
        write_faults(state, {"busy_next": count})
        assert switch.poll().busy_next == count
    clear_faults(state)
    clear_faults(state)
    assert switch.poll() == RegisterFaults()


def test_a_change_that_looks_like_the_file_before_is_seen_too(state):
    switch = FaultSwitch(state)
    write_faults(state, {"busy_next": 1})
    switch.poll()
    before = faults_path(state).stat()
    write_faults(state, {"busy_next": 2})
    os.utime(faults_path(state), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert switch.poll().busy_next == 2


def test_counters_run_down_in_memory_and_start_again_with_a_new_file(state):
    switch = FaultSwitch(state)
    for _ in range(2):
        write_faults(state, {"busy_next": 2})
        before = faults_path(state).read_bytes()
        switch.poll()
        assert [switch.spend("busy_next") for _ in range(3)] == [True, True, False]
        switch.poll()
        assert not switch.spend("busy_next")
        assert faults_path(state).read_bytes() == before


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"ofline": true}', b""])
def test_a_file_that_is_not_understood_is_ignored_with_a_warning(tmp_path, caplog, content):
    bench = VirtualBench(tmp_path)
    bench.register.open_shift(None)
    faults_path(bench.state).write_bytes(content)
    assert print_on(bench.register, a_job()).mark.fd_number == 3
    assert caplog.text.count("no fault is in force") == 1
    assert str(faults_path(bench.state)) in caplog.text
    bench.register.close()
