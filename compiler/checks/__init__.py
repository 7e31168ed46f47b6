"""What must hold of a graph, one check per module."""
