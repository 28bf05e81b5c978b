"""What a receipt is and which rules it obeys: pure values, no I/O, nothing else of ours."""
