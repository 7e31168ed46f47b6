"""The text form: grammar, tables, tokens, parser, tree builder."""
