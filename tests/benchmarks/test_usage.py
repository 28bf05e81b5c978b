"""The use of the machine by processes and by those that they have started."""

import subprocess
import sys

import psutil

from benchmarks.programs import processor_s, resident_mb

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "sum(range(10**7)); print(1, flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


def test_a_process_and_its_child_are_counted_together_and_apart() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        family = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children()]
        assert [process.pid for process in family] == [parent.pid, child]
        assert processor_s(family) >= processor_s(family[1:]) > 0
        assert resident_mb(family) > resident_mb(family[1:]) > 1
        parent.communicate("\n")
