"""Journal, fiscal storages and OFD held against each other, and a lost journal made anew from what is left."""
