"""Sweeps as a user runs them, with quick trials."""
