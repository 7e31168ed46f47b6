"""Codes of discrete latents: made of images once, stored, written for others, and turned back into images."""
