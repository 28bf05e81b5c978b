"""A whole shop in one thread, under a seeded scheduler.

The bridge is the real one: `runtime.service.Service`, every stage, the paho session, the journal in a real SQLite
file, the register's model with its fiscal storage in a real file, the OFD's ledger. Simulated is what lies between
and around them: time, the network, the broker, terminals, operators, and everything that can go wrong.

Every seed is a different shop on a different bad day; the same seed is the same day again, effect by effect.
"""
