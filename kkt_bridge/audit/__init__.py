"""Journal, fiscal storages and OFD held against each other; nothing is changed."""
