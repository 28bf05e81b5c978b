"""Stage 3: fiscal documents to the OFD, in the order of their FD numbers.

One lane for each register sends its oldest documents; one road, shared by all lanes, knows if anything may be sent.
What an answer means is decided by evidence over all documents, see `dispositions` and `evidence`.
"""
