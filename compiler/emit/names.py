"""Identifiers of emitted code: what may stand there, and who has which name."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

MODULE_LEVEL = frozenset({"F", "Model", "Tensor", "annotations", "math", "nn", "torch"})
MODULE_ATTRIBUTES = frozenset(  # what `torch.nn.Module` itself answers to
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half input ipu load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
    state_dict target to to_empty train training type xpu zero_grad""".split()
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BUILTINS = frozenset(name for name in dir(builtins) if name.islower())


def identifier(name: str) -> str:
    """Return `name` if it can stand in Python source as it is.

    Raises:
        ValueError: if it is anything but an ASCII identifier. The grammar admits no other, so this is the last line of defence.
    """
    if not _IDENTIFIER.match(name) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be an identifier of emitted code")
    return name


def camel(name: str) -> str:
    """`inverted_residual` becomes `InvertedResidual`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Recipe"


class Names:
    """Gives out names, each once, none of which hides another that the code needs."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | MODULE_LEVEL | _BUILTINS | {"self"}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, name: str) -> str:
        """Return `name`, with an underscore or a number behind it where it is taken or reserved."""
        if keyword.iskeyword(name) or name in MODULE_LEVEL or name in _BUILTINS:
            name += "_"
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}" if name[-1:].isdigit() else f"{name}{number}"
        self._taken.add(free)
        return identifier(free)

    def release(self, name: str) -> None:
        self._taken.discard(name)
