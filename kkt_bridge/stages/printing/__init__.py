"""Stage 2: printing. One lane a register, which is the sole owner of its line.

- `lane.py`: the lane, its states and which may follow which, what it does next, the printing of a turn;
- `leases.py`: the receipts it has leased, what became of each, and the commits that record it;
- `storage_reader.py`: what its fiscal storage holds beyond the journal's knowledge;
- `in_doubt.py`: which receipts in doubt are proven absent, and which only a person can settle;
- `manual_resolution.py`: what such a person decides;
- `stale_journal.py`: what it does where the journal may be older than the storages, and how lanes wait for each other;
- `shift_age.py`, `requests.py`: the age of shifts and their events; work from other threads;
- `status.py`: its settings, its register's last answer, and its state for others.
"""
