"""What is under load: a bridge, which is held to its word after each run, or the echo."""

from dataclasses import replace

from benchmarks.bridge import PRINTED, Bridge
from benchmarks.errors import BenchmarkError
from benchmarks.load import Loaded, LoadSpec
from benchmarks.loader import run_load
from benchmarks.site import ANY_ANSWER, Site
from benchmarks.usage import children_processor_s, family_resident_mb, processor_s


def load_of(site: Site) -> LoadSpec:
    """A load on the site's broker, still without a target."""
    return LoadSpec(port=site.broker.port, protocol=site.broker.protocol, branch="", expect=ANY_ANSWER)


def load_bridge(bridge: Bridge, spec: LoadSpec) -> Loaded:
    """One run against a bridge: as many receipts are printed and counted as were answered."""
    before, spent, spent_aside = bridge.account, processor_s(bridge.pid), children_processor_s(bridge.pid)
    loaded = run_load(replace(spec, branch=bridge.branch, expect=PRINTED))
    spent = processor_s(bridge.pid) - spent
    spent_aside = children_processor_s(bridge.pid) - spent_aside
    family_mb = family_resident_mb(bridge.pid)
    bridge.check()
    after = bridge.take_account()
    for what, increase in (
        ("fiscal documents", after.fiscal_documents - before.fiscal_documents),
        ("receipts in the journal", after.journal_receipts - before.journal_receipts),
    ):
        if increase != loaded.answered:
            raise BenchmarkError(f"{bridge.name}: {loaded.answered} replies, but {increase} more {what}")
    return replace(
        loaded,
        processor_ms=spent / loaded.answered * 1000,
        child_processor_ms=spent_aside / loaded.answered * 1000,
        family_mb=family_mb,
    )


def load_echo(branch: str, spec: LoadSpec) -> Loaded:
    """One run against an echo."""
    return run_load(replace(spec, branch=branch))
