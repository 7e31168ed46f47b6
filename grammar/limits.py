"""How much a file may hold. Inputs are untrusted: reading one takes bounded time, memory and recursion."""

BYTES = 1 << 20  # of a text file
YAML_BYTES = 1 << 18  # PyYAML takes about ten seconds per megabyte
TOKENS = 100_000
BRACKETS = 64  # open at once
DEPTH = 100  # of the tree: `a + b + …` is as deep as it has terms; a visitor has nine frames a level
DIGITS = 40  # in one number
INTEGER = 2**53  # the largest magnitude; above it integers and floats no longer agree
DIAGNOSTICS = 20  # per file
