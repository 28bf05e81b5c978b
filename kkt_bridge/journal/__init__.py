"""The journal: every durable change of the bridge, and the only place where stages meet."""
