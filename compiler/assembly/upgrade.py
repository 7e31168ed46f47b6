"""Specs of earlier versions, as run folders keep them: what meant something else then is written as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hvdsl.compiler.assembly.declared import arguments
from hvdsl.compiler.assembly.merge import lets
from hvdsl.compiler.settings import Train
from hvdsl.grammar import tree

# In 0.1 a number was decoupled decay and `l2` went into the gradient, whichever of the two names stood there.
_ADAM = ("adam", "adamw")


def upgraded(spec: tree.Spec) -> tree.Spec:
    """Return the spec of a run with the optimizer that it trained with: `adam(weight_decay = 0.01)` was `adamw`.

    Before: `train { optimizer = adam(lr = 1e-3, weight_decay = 0.01) }`
    After: `train { optimizer = adamw(lr = 1e-3, weight_decay = 0.01) }`
    """
    values = lets([spec.items])
    return replace(spec, items=tuple(_item(item, values) for item in spec.items))


def _item(item: tree.SpecItem, values: Mapping[str, tree.Expr]) -> tree.SpecItem:
    if not isinstance(item, tree.SettingsNode) or item.kind != "train":
        return item
    settings = tuple(
        replace(setting, value=_optimizer(setting.value, values)) if setting.key.id == "optimizer" else setting
        for setting in item.settings
    )
    return replace(item, settings=settings)


def _optimizer(expr: tree.Expr, values: Mapping[str, tree.Expr]) -> tree.Expr:
    call = _behind(expr, values)
    if not isinstance(call, tree.Call) or not isinstance(call.function, tree.Name) or call.function.id not in _ADAM:
        return expr
    names = [argument.name for argument in arguments(Train)["optimizer"].takes(call.function.id)]
    given = {a.name or names[i]: a.value for i, a in enumerate(call.arguments) if a.name or i < len(names)}
    if "weight_decay" not in given:
        return expr
    decay = _behind(given["weight_decay"], values)
    in_gradient = isinstance(decay, tree.Call) and isinstance(decay.function, tree.Name) and decay.function.id == "l2"
    kind = "adam" if in_gradient else "adamw"
    return replace(call, function=tree.Name(kind, span=call.function.span)) if kind != call.function.id else expr


def _behind(expr: tree.Expr, values: Mapping[str, tree.Expr]) -> tree.Expr:
    """Return what stands behind the name of a `let`."""
    for _ in values:
        if isinstance(expr, tree.Name) and expr.id in values:
            expr = values[expr.id]
    return expr
