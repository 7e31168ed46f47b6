"""Emission: from a graph to the source of a Python module that a person would be glad to have written."""
