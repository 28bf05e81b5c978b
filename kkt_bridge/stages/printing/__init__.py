"""Stage 2: printing. One lane a register, which is the sole owner of its line.

- `lane.py`: the lane, its states and which may follow which;
- `register_watch.py`: what the register last said, as one value that never changes;
- `storage_reader.py`: what its fiscal storage holds beyond the journal's knowledge;
- `in_doubt.py`: which receipts in doubt are proven absent, and which only a person can settle;
- `manual_resolution.py`: what such a person decides;
- `shifts.py`, `requests.py`, `outcomes.py`, `lease_on_arrival.py`: shifts, work from other threads, what is recorded,
  and the next receipt leased in the commit that takes it.
"""
