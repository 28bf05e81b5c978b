"""Telemetry and commands over the stages of a shop; at the end the journal's counts must be right."""

import pytest
from operations.harness import OperationsHarness
from support.stages import check_counts, mend_disk


@pytest.fixture
def open_ops(tmp_path):
    harnesses = []

    def opened(**settings):
        harnesses.append(OperationsHarness(tmp_path, **settings))
        return harnesses[-1]

    yield opened
    for ops in harnesses:
        mend_disk(ops.shop.journal)
        check_counts(ops.shop.journal, ops.shop.folder)
        ops.close()


@pytest.fixture
def ops(open_ops):
    return open_ops()
