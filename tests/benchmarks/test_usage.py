"""What processes take of the machine, and what those take that they have started."""

import subprocess
import sys

from benchmarks.usage import children_of, children_processor_s, family_resident_mb, processor_s, resident_mb

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
        assert children_of(parent.pid) == [child]
        assert children_processor_s(parent.pid) == processor_s(child) > 0
        both = resident_mb(parent.pid) + resident_mb(child)
        assert abs(family_resident_mb(parent.pid) - both) < 1
        parent.communicate("\n")
