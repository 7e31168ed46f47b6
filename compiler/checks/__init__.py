"""What must hold of an elaborated spec: each check says what is wrong, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from hvdsl.compiler.checks.emission import check_causality, check_shared, check_stepwise
from hvdsl.compiler.checks.flows import check_flows
from hvdsl.compiler.checks.reach import (
    check_cancelled_terms,
    check_dead_values,
    check_emptied_maps,
    check_leaks,
    check_posteriors,
    check_still_norms,
    check_unread_latents,
    check_untrained_priors,
    check_zero_products,
)
from hvdsl.compiler.checks.training import check_biases, check_input_range, check_objective, check_parameter_groups
from hvdsl.compiler.model import Model
from hvdsl.grammar.diagnostics import Diagnostic

__all__ = ["CHECKS", "OF_PRIORS", "Check"]

Check: TypeAlias = Callable[[Model], Iterable[Diagnostic]]

CHECKS: tuple[Check, ...] = (
    check_leaks,
    check_posteriors,
    check_unread_latents,
    check_dead_values,
    check_zero_products,
    check_emptied_maps,
    check_cancelled_terms,
    check_untrained_priors,
    check_still_norms,
    check_input_range,
    check_flows,
    check_biases,
    check_objective,
    check_parameter_groups,
    check_causality,
    check_stepwise,
    check_shared,
)

OF_PRIORS: tuple[Check, ...] = (
    check_dead_values,
    check_zero_products,
    check_emptied_maps,
    check_cancelled_terms,
    check_parameter_groups,
    check_causality,
    check_stepwise,
    check_shared,
)
"""Those that look at second-stage priors: all that hold of priors over codes from a file."""
