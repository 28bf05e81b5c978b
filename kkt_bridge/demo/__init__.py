"""Everything on one machine: a shop, its bridge, an outage in the middle, and a window to watch it through."""
