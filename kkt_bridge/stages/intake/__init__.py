"""Stage 1: what arrives is decided on, committed, and then acknowledged.

`intake` moves the messages, `decide` decides on one of them, `refusals` says what is refused in which words,
`admission` knows whether a receipt may be taken now, `flood` who sends more than a terminal has to say.
"""
