"""Analyses: pure functions of a graph. None of them imports torch."""
