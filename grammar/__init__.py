"""Text and YAML readers, one syntax tree, the printer."""
