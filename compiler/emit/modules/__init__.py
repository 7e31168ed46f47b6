"""The module tree: which instances become objects of which class, and how each is constructed."""
