"""What a shop would own, simulated: fiscal registers, the OFD, POS terminals."""
