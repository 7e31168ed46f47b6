"""Deep hierarchical VAEs as text: a language, a compiler to plain PyTorch, and one runtime."""
