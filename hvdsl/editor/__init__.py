"""What editors and documentation tools need of the language: colours here, the language server beside it."""
