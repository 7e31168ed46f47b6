"""The YAML form: nodes, reader, printer."""
