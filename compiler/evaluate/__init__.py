"""Values without tensors: one evaluator for every expression of a spec."""
