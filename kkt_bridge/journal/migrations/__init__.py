"""The schema's history: numbered SQL files, each run once, in order, at start."""
