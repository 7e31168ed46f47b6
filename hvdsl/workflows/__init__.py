"""What is done with specs and runs: compile, train, load, use, import; typed options in, results out.

Nothing here parses arguments, prints, or leaves the process other than it found it.
"""
