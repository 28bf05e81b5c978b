"""Stage 3: fiscal documents to the OFD, in the order of their FD numbers.

The order is that of `ready_documents` in `kkt_bridge.journal.document_queue`. One lane for each register sends its
oldest documents; one uplink, shared by all lanes, knows if anything may be sent. `disposition` says what follows from
an answer, `failure_attribution` whose fault a failure is, `next_action` what is done next, and `outcomes` writes down
what came of it.
"""
