"""From a prior's graph to its position-by-position form: what is done once, once per row and once per position."""
