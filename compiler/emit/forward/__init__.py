"""`forward` of a class: steps over single-assignment values, found loops, variables, and the text."""
