"""Options that several commands share, spelled once, and what they stand for."""
