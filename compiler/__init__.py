"""From a spec to a graph to plain PyTorch; never imports torch."""
