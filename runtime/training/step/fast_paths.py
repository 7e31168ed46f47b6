"""What makes training fast, from outside the model: mixed precision, and which fast paths a run uses.

Convolutions run in the low precision; the stream that they add to, every distribution's parameters, the rate and the
likelihood stay in float32. A rate summed in bf16 is off by about two percent; with this rule, by a thousandth.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.training.step.prepared import PreparedWeights

Precision = Literal["fp32", "tf32", "bf16", "fp16"]

_LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train_in(model: nn.Module, precision: Precision, *, normalise_together: bool = False) -> None:
    """Make the model's forward pass run in mixed precision while it is training; evaluation stays in float32.

    Every composite module (a recipe, a section, the model itself) hands on float32: a sum of float32 and a
    low-precision tensor is float32, so once each recipe returns float32 the stream is, and so are the parameters of
    every distribution. The likelihood is computed from the model's output, outside its forward pass.

    Args:
        normalise_together: Normalise weights of one shape together, whatever the precision: see `PreparedWeights`.
    """
    low = _LOW.get(precision)
    if low is None and not normalise_together:
        return
    together = low if casts_together(next(model.parameters()).device) else None
    model.forward = _prepared_in_training(model, low, PreparedWeights(model, together, normalise=normalise_together))
    if low is None:
        return
    for module in model.modules():
        if next(module.children(), None) is not None:
            module.register_forward_hook(_to_float32)


def casts_together(device: torch.device) -> bool:
    """Whether weights are cast together there, not one by one by autocast, to the same numbers.

    It saves launches. A CPU has none, and is slower so: by 1.5 %, by 10 % where freed memory goes back to the system.
    """
    return device.type != "cpu"


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse an arithmetic that the device has not.

    Raises:
        HvdslError: `tf32` anywhere but on an accelerator of NVIDIA.
    """
    if precision == "tf32" and device.type != "cuda":
        raise HvdslError(
            f"`precision = tf32` is an arithmetic of NVIDIA's accelerators, and the model is on the {device.type}: "
            "take `fp32` or `bf16`"
        )


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Products of float32 matrices and convolutions in TF32 under `tf32`, exact under all others; as before afterwards.

    torch's own default is TF32 for convolutions and exact products: neither the one nor the other.
    """
    settings: list[Any] = []
    if device.type == "cuda":
        settings = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]  # made at run time
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for setting, kept in zip(settings, before, strict=True):
            setting.fp32_precision = kept


def gradient_scaler(precision: Precision, initial_scale: float, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler; it does nothing but for fp16, whose small gradients would vanish."""
    return torch.amp.GradScaler(device.type, init_scale=initial_scale, enabled=precision == "fp16")


def _prepared_in_training(model: nn.Module, low: torch.dtype | None, weights: PreparedWeights) -> Any:
    forward, device = model.forward, next(model.parameters()).device.type

    @functools.wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        cast = nullcontext() if low is None else torch.autocast(device, low, enabled=model.training)
        with cast, weights.in_use() if model.training else nullcontext():
            return forward(*args, **kwargs)

    return wrapped


def _to_float32(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if isinstance(output, Tensor):
        low = output.dtype in (torch.bfloat16, torch.float16)
        return output.float() if low else output
    if isinstance(output, tuple):
        return tuple(_to_float32(module, args, item) for item in output)
    return output


LEVELS: Mapping[str, int] = {"cpu": 1, "cuda": 1}
"""The optimisation level by kind of device, where none is asked for.

On the CPU by measurement: level 2 gains nothing there. On CUDA level 1 is not measured against level 0; level 2 took
0.84 of its time in one measurement (`vdvae_cifar10`, batch 32, bf16), after 52 s of compilation.
"""


def default_level(device: torch.device) -> int:
    """The optimisation level of a new run on a device."""
    return LEVELS.get(device.type, 1)


def compilation_cache() -> Path:
    """Where code that `torch.compile` generates is kept from run to run: in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvdsl" / "compiled"


def fast_paths(
    device: torch.device,
    *,
    level: int | None,
    precision: Precision,
    graphs: str | None,
    optimizer: torch.optim.Optimizer,
    workers: int,
) -> str:
    """One line: the fast paths that are on, then those that are off, each with the reason.

    Args:
        graphs: Why steps are not launched as graphs; None where they are.
    """
    cuda = device.type == "cuda"
    on, off = [] if level is None else [f"-O{level}"], []
    on.append(precision)
    if precision == "fp32":
        off.append("tf32, bf16, fp16 (`--precision`)" if cuda else "bf16 (`--precision bf16`)")
    if level is not None and level < 2:
        off.append(f"compiled recipes ({'measured once' if cuda else 'no gain on a CPU'}, `-O2`)")
    kind = type(optimizer).__name__
    if optimizer.param_groups[0].get("fused"):
        on.append(f"fused {kind}")
    else:
        off.append(f"fused optimizer (torch has no fused {kind})")
    (on if cuda else off).append("channels-last" if cuda else "channels-last (slower on a CPU but where -O1 puts it)")
    if graphs is None:
        on.append("graphs")
    else:
        off.append(f"graphs ({graphs})")
    if workers:
        on.append(f"{workers} {'thread' if workers == 1 else 'threads'} reading ahead")
    else:
        off.append("reading ahead (`--workers 1`)")
    return f"fast paths: {', '.join(on)}; off: {', '.join(off) or 'none'}"
