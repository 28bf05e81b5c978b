"""Why a benchmark has no figure to give."""


class BenchmarkError(Exception):
    """Something did not do what is measured, so there is nothing to report."""


class MissingProgramError(Exception):
    """A program that the benchmarks need is not installed; the message says what to install."""
