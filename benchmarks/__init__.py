"""What kkt-bridge achieves, always against something bare that was measured in the same run on the same machine."""
