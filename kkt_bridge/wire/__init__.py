"""Text and bytes of the broker side: topics, messages and their schemas. No I/O."""
