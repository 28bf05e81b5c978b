"""Stage 1: what arrives is decided on, committed, and then acknowledged.

`intake` moves the messages, `decide` understands one and decides on it, `record` looks up what a decision needs and
writes its verdict, `admission` knows whether a receipt may be taken now, `refunds` what is left of a sale, `flood` who
sends more than a terminal has to say. The words of every refusal stand in `kkt_bridge.wire.refusals`.
"""
