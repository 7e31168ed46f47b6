"""Layers, distributions, objective, trainer, data: what emitted models run on."""
