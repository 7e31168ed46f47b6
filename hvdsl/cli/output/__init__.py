"""What commands show and write: diagnostics, JSON, tables, progress, files."""
