"""The operator of fiscal data: the HTTP client, and the circuit breaker before it."""
