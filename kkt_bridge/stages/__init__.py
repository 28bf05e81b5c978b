"""The way of a receipt, one stage a room or a file; each takes rows, calls one adapter, records what came of it.

Every stage has a `step()` that does one bounded piece of work and returns the seconds until it wants the
next: 0 for at once, None for "when something happens". Stages meet in the journal and nowhere else.
"""
