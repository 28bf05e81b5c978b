"""A program with a virtual register in it, killed while it prints: what was answered exists, nothing is torn."""

import random
import signal
import subprocess
import sys

import pytest
from registers.bench import VirtualBench, a_job
from support.registers import print_on

from kkt_bridge.clock import SystemClock
from kkt_bridge.registers.virtual.storage_file import read_documents

PRINTING = """
import sys
from datetime import UTC
from pathlib import Path
from kkt_bridge.clock import SystemClock
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.registers.base import Expected, PrintJob
from kkt_bridge.registers.virtual.driver import VirtualRegister
register = VirtualRegister("kkt-1", Path(sys.argv[1]), UTC, SystemClock(), 0)
if register.status().mode == "shift_closed":
    register.open_shift(None)
job = PrintJob(Receipt.model_validate_json(sys.argv[2]), sys.argv[3], "osn")
status = register.status()
for fd_number in range(status.last_fd_number + 1, 1_000_000):
    printed = register.print_receipt(job, Expected(status.fn_number, fd_number))
    print(printed.mark.fd_number, flush=True)
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_kill_leaves_every_answered_document_whole_and_the_numbers_without_gaps(tmp_path, seed):
    bench, job, chance = VirtualBench(tmp_path, clock=SystemClock()), a_job(), random.Random(seed)
    arguments = [str(bench.state), job.receipt.model_dump_json(exclude_none=True), job.requisite]
    answered = []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", PRINTING, *arguments], stdout=subprocess.PIPE, text=True
        ) as program:
            answered += [int(program.stdout.readline()) for _ in range(chance.randint(1, 300))]
            program.send_signal(signal.SIGKILL)
            answered += [int(line) for line in program.stdout if line.endswith("\n")]
        assert program.returncode == -signal.SIGKILL

    documents = list(read_documents(bench.state))
    assert [document.fd_number for document in documents] == list(range(1, len(documents) + 1))
    assert all(documents[fd_number - 1].body.requisite_1192 == job.requisite for fd_number in answered)
    assert len(set(answered)) == len(answered)

    mark = print_on(bench.register, job).mark
    assert (mark.fd_number, mark.receipt_number) == (len(documents) + 1, len(documents) - 1)
    bench.register.close()
