"""The composition root: builds every part once, turns steps into threads, stops in reverse order."""
