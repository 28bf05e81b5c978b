"""For all tests: what they start keeps the compiled program on disk, as an installed one does."""

import os

# With it set, each start would compile the program anew, which takes a quarter of a bridge's start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
