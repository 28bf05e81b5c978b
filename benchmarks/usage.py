"""What a process takes of the machine, by /proc."""

import os
from pathlib import Path

KIB_PER_MB = 1000 * 1000 / 1024


def resident_mb(pid: int) -> float:
    """Its resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / KIB_PER_MB
    raise ProcessLookupError(f"no process {pid}")


def processor_s(pid: int) -> float:
    """Its processor time so far, in user and system mode."""
    # The name, in parentheses, may hold anything; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and that still run (proc(5), `children`)."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(number) for number in (thread / "children").read_text(encoding="ascii").split()]
        except OSError:
            continue  # the thread has ended
    return found


def children_processor_s(pid: int) -> float:
    """Processor time so far of the processes that this one has started, as long as they run."""
    return sum(map(processor_s, children_of(pid)))


def family_resident_mb(pid: int) -> float:
    """Resident memory of a process and of those that it has started; what they share is counted for each."""
    return resident_mb(pid) + sum(map(resident_mb, children_of(pid)))
