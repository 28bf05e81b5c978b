"""A receipt and its rules: pure values, no I/O, nothing else of ours."""
