"""From a closed tree to the graph: recipes expanded, expressions evaluated, every shape inferred."""
