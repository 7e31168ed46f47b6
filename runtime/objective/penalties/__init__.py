"""Penalties on the weights themselves, beside what a batch costs: spectral norms and batch-norm gains."""
