"""Use a trained model: evaluate, sample, reconstruct, draw pictures."""
