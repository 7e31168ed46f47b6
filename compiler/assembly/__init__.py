"""From the files of a spec to one closed tree, its settings and its likelihood."""
