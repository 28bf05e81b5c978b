"""The virtual register: a model of a Shtrih-M register with its fiscal storage, and the driver of it."""
