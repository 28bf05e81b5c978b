"""Runs the load generator."""

import json
import subprocess
from dataclasses import asdict

from benchmarks.errors import BenchmarkError
from benchmarks.load import Loaded, LoadSpec
from benchmarks.processes import ROOT, python

SLACK_S = 30.0
SLOWEST_PER_S = 50
"""Receipts a second below which a run of a fixed count is given up."""


def run_load(spec: LoadSpec) -> Loaded:
    """One run; BenchmarkError if an answer was missing or wrong."""
    measure_s = spec.measure_s if spec.count is None else spec.count / SLOWEST_PER_S
    timeout_s = spec.warm_up_s + measure_s + spec.answer_timeout_s + SLACK_S
    try:
        run = subprocess.run(
            python("benchmarks.load", json.dumps(asdict(spec))),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"the load did not end within {timeout_s:g} s") from None
    if run.returncode != 0:
        raise BenchmarkError(f"{spec.branch}: {run.stderr.strip()}")
    return Loaded(**json.loads(run.stdout))
