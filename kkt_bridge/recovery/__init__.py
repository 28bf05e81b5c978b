"""Bringing a journal back: a copy put in its place, and what a lost one is made of."""
