"""How many operations a training step gives an accelerator: counted without one, on the `meta` device.

    python -m benchmarks.launches [SPEC …] [--precision fp32 bf16] [--level 1] [--batch 4] [--layouts]

The step is the trainer's own, with tensors that have shapes and layouts but no values, channels-last as on an
accelerator. What is counted is what an accelerator launches at least one kernel for: views and what only allocates are
left out, a convolution's bias and each gradient that its backward pass gives count by themselves, and an operation on a
list of tensors counts once. So it is a proxy of kernels, and as good for comparing before with after as they are.

Two things that torch does on CUDA are written down here, since `meta` does not do them: which layout convolutions give
their results in, and which operations autocast casts for.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import hvdsl
from hvdsl.compiler.settings import ModelSettings
from hvdsl.grammar.source import Source
from hvdsl.runtime.ground.noise import JointNoise
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.latents.noise import noise_layout
from hvdsl.runtime.objective import spectral
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.quantizers.codebook import Codebook
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step import averages, optimization
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.tasks import ImageTask

SPECS = ("vdvae_cifar10", "vdvae_ffhq256", "nvae_cifar10", "vqvae2_256")
CHANNELS_LAST = torch.channels_last
META = torch.device("meta")

_ALLOCATING = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "lift_fresh",
    "_efficientzerotensor",
}
_ALIASING = {"detach", "detach_", "_unsafe_view", "_reshape_alias", "alias", "resize_", "set_", "result_type"}
_KINDS: dict[str, str] = {
    "convolution": "convolution convolution_backward",
    "product": "mm addmm bmm baddbmm mv dot addmv _scaled_dot_product",
    "copy": "clone copy_ cat stack constant_pad_nd index repeat slice_backward select_backward",
    "addition": "add add_ sub sub_ rsub",
    "activation": "gelu silu silu_ elu relu leaky_relu sigmoid tanh softplus hardtanh threshold",
    "normalisation": "native_batch_norm native_group_norm native_layer_norm",
    "reduction": "sum mean max amax linalg_vector_norm logsumexp argmin any all var prod",
    "resampling": "upsample_nearest2d avg_pool2d max_pool2d",
    "fill": "zeros zeros_like ones ones_like full full_like new_zeros new_full fill_ zero_ scalar_tensor arange",
    "random": "normal_ uniform_ native_dropout bernoulli_",
    "list": "_fused_adam_ _fused_adamw_ _fused_sgd_ _amp_foreach_non_finite_check_and_unscale_",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def kind_of(name: str) -> str:
    """What an operation of ATen is, by its name without overload."""
    return _KIND_OF.get(name) or _KIND_OF.get(name.removesuffix("_backward"), "other arithmetic")


@dataclass(slots=True)
class Count:
    """Operations of a step by part and kind, and what was met in another layout than channels-last.

    Attributes:
        turned: Copies that only change the layout of a map, by where and of what shape.
        unlike: Inputs, weights and gradients of convolutions that are not channels-last, in the same way.
    """

    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    turned: Counter[str] = field(default_factory=Counter)
    unlike: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    def by_part(self) -> Counter[str]:
        return _summed(self.operations, 0)

    def by_kind(self) -> Counter[str]:
        return _summed(self.operations, 1)


def _summed(counts: Counter[tuple[str, str]], place: int) -> Counter[str]:
    sums: Counter[str] = Counter()
    for key, count in counts.items():
        sums[key[place]] += count
    return sums


class Counting(TorchDispatchMode):
    """Counts operations by the part of the step that is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()
        self._parts = ["input"]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done meanwhile belongs to this part, unless to a part of it; penalties have no parts."""
        self._parts.append(self._parts[-1] if self._parts[-1] == "penalties" else name)
        try:
            yield
        finally:
            self._parts.pop()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if function.is_view or name in _ALLOCATING or name in _ALIASING:
            return result
        if name == "convolution":
            return self._convolution(result, *args)
        if name == "convolution_backward":
            return self._convolution_backward(result, *args)
        if name.startswith("_foreach"):
            self._list(name, args)
            return result
        tensors = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if name == "_to_copy" or (name in ("copy_", "clone") and tensors):
            source = args[1] if name == "copy_" else args[0]
            self._add(self._copy(source, tensors[0]), name)
        else:
            self._add(kind_of(name), name)
        return result

    def _add(self, kind: str, name: str, count: int = 1) -> None:
        self.count.operations[self._parts[-1], kind] += count
        self.count.names[self._parts[-1], name] += count

    def _list(self, name: str, args: tuple[Any, ...]) -> None:
        """An operation on lists: one, or one for each tensor where lists differ in shape, layout or, mostly, type."""
        lists = [arg for arg in args if isinstance(arg, list | tuple) and arg and isinstance(arg[0], Tensor)]
        typed = name != "_foreach_copy_"
        fast = all(
            (t.shape, t.stride()) == (first.shape, first.stride())
            for first, *others in zip(*lists, strict=True)
            for t in others
        )
        fast = fast and (not typed or len({t.dtype for tensors in lists for t in tensors}) == 1)
        self._add("list" if fast else "list, one by one", name, 1 if fast else len(lists[0]))

    def _copy(self, source: Tensor, result: Tensor) -> str:
        if source.dtype != result.dtype:
            return "cast"
        if _turned(source, result):
            self.count.turned[f"{self._parts[-1]} {tuple(result.shape)} {source.stride()} to {result.stride()}"] += 1
            return "layout"
        return "copy"

    def _convolution(self, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        self._look(x=x, weight=weight)
        self._add("convolution", "convolution")
        if bias is not None:
            self._add("bias", "convolution's bias")
        return result.contiguous(memory_format=_given_format(x, weight))

    def _convolution_backward(
        self, results: tuple[Tensor, ...], gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any
    ) -> Any:
        self._look(gradient=gradient, x=x, weight=weight)
        of_x, of_weight, of_bias = rest[-1]
        self._add("convolution", "convolution_backward", of_x + of_weight)
        self._add("bias", "convolution_backward's bias", of_bias)
        layout = _given_format(x, weight)
        of = [None if r is None or r.dim() != 4 else r.contiguous(memory_format=layout) for r in results[:2]]
        return *of, results[2]

    def _look(self, **tensors: Tensor) -> None:
        for role, tensor in tensors.items():
            if not _is_channels_last(tensor):
                self.count.unlike[f"{self._parts[-1]} {role} {tuple(tensor.shape)} {tensor.stride()}"] += 1
                self._add("layout", "within a convolution")


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether a map's channels lie side by side, in a slice some of them; one channel or position does."""
    if tensor.is_contiguous(memory_format=CHANNELS_LAST):
        return True
    strides = [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
    return tensor.stride(1) == 1 and all(stride > 1 for stride in strides[:1] + strides[2:])


def _given_format(x: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout that cuDNN computes in and gives: channels-last where the input or the weight is."""
    formats = (suggest_memory_format(x), suggest_memory_format(weight))
    return CHANNELS_LAST if CHANNELS_LAST in formats else torch.contiguous_format


def _turned(source: Tensor, result: Tensor) -> bool:
    """Whether a copy of a map differs from it in nothing but the layout."""
    if source.dim() != 4 or source.shape != result.shape or 0 in source.stride():
        return False
    return source.is_contiguous() != result.is_contiguous() and (
        source.is_contiguous(memory_format=CHANNELS_LAST) != result.is_contiguous(memory_format=CHANNELS_LAST)
    )


_LOW = ("conv2d", "conv_transpose2d", "linear", "matmul", "__matmul__", "bmm", "mm", "scaled_dot_product_attention")
_HIGH = ("exp", "expm1", "log", "log1p", "softplus", "softmax", "log_softmax", "group_norm", "layer_norm", "sum",
         "cumsum", "prod", "pow", "__pow__", "norm", "logsumexp", "reciprocal", "rsqrt", "cross_entropy")  # fmt: skip
_WIDEST = ("cat", "stack", "addcmul")


class Autocast(TorchFunctionMode):
    """What `torch.autocast` does on CUDA, for tensors on `meta`: casts for products, kept once made of a parameter."""

    def __init__(self, device: str, dtype: torch.dtype, enabled: bool = True) -> None:
        super().__init__()
        self._dtype, self._enabled = dtype, enabled
        self._kept: dict[int, Tensor] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.clear()
        super().__exit__(kind, error, trace)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        kwargs = kwargs or {}
        if self._enabled and name in _LOW:
            args, kwargs = tree_map_only(Tensor, self._lowered, (args, kwargs))
        elif self._enabled and name in _HIGH:
            args, kwargs = tree_map_only(Tensor, _raised, (args, kwargs))
        elif self._enabled and name in _WIDEST:
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            if any(t.dtype == torch.float32 for t in tensors):
                args, kwargs = tree_map_only(Tensor, _raised, (args, kwargs))
        return function(*args, **kwargs)

    def _lowered(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(self._dtype)
        if id(tensor) not in self._kept:
            self._kept[id(tensor)] = tensor.to(self._dtype)
        return self._kept[id(tensor)]


def _raised(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Fused updates, which have no form without values, take their tensors and do nothing; autocast is of `meta`."""

    def nothing(*args: Any, **kwargs: Any) -> None:
        if kwargs["lr"].device != META or kwargs["found_inf"].device != META:
            raise AssertionError("a fused update waits for a number of the host")

    import torch.optim.optimizer as module

    known: list[str] = vars(module)["_get_fused_kernels_supported_devices"]()
    with (
        torch.library._scoped_library("aten", "IMPL") as library,
        mock.patch.object(module, "_get_fused_kernels_supported_devices", lambda: [*known, "meta"]),
        mock.patch.object(torch.nn.utils.clip_grad, "_has_foreach_support", lambda *_, **__: True),
        mock.patch.object(torch, "autocast", Autocast),
    ):
        for kernel in ("_fused_adam_", "_fused_adamw_", "_fused_sgd_"):
            library.impl(f"{kernel}.tensor_lr", nothing, "Meta")
        yield


def batch_on_meta(model: nn.Module, settings: ModelSettings, batch: int) -> ModelBatch:
    """A step's input as it is on a device, without values."""
    vae = as_vae(model)
    pixels = torch.empty(batch, *settings.data.shape, device=META).contiguous(memory_format=CHANNELS_LAST)
    noise = JointNoise(0, range(batch), layout=noise_layout(tuple(vae.LATENTS)), device=META)
    noise.hold({kind: torch.empty(batch, n, device=META) for kind, n in noise.layout.totals.items()})
    return ModelBatch(vae.input(pixels), vae.target(pixels), noise)


def built_on_meta(spec: str | Source, level: int = 1, **overrides: Any) -> tuple[nn.Module, ModelSettings]:
    """A model in training without values, whose codebooks have begun, which a first step on the host does."""
    compiled = hvdsl.compile(spec, level=min(level, 1), overrides=overrides)
    with META:
        model = compiled.module().Model().train()
    for module in model.modules():
        if isinstance(module, Codebook):
            module._begun = True
    return model.to(META), compiled.model.settings


@on_meta()
def count_step(model: nn.Module, settings: ModelSettings, batch: int) -> Count:
    """The operations of a step of a model on `meta`: its second, when what is made once is made."""
    if settings.train is None:
        raise hvdsl.Error("the spec has no `train` section, whose step could be counted")
    task = ImageTask(settings.objective)
    with mock.patch.object(spectral, "FIRST_ITERATIONS", spectral.LATER_ITERATIONS):
        steps: Optimization[ModelBatch] = task.optimization(model, settings.train, Clock(10, 100), World())
        steps.launch([batch_on_meta(model, settings, batch)] * settings.train.accumulate)
    parts = [batch_on_meta(model, settings, batch)] * settings.train.accumulate
    counting = Counting()
    with counting, _parts(counting, model, steps):
        steps.launch(parts)
    return counting.count


@cache
def operations_of(spec: str, precision: str, level: int) -> int:
    """How many operations a step of a shipped spec is; of how many images is of no consequence."""
    alike = {"tf32": "fp32", "fp16": "bf16"}.get(precision, precision)
    return count_step(*built_on_meta(spec, level, **{"train.precision": alike, "train.accumulate": 1}), 2).total


@contextlib.contextmanager
def _parts(counting: Counting, model: nn.Module, steps: Optimization[ModelBatch]) -> Iterator[None]:
    """Say of each part of the step when it is under way."""
    places: list[tuple[object, str, str]] = [
        (optimization, "set_learning_rate", "optimizer"),
        (optimization, "update", "optimizer"),
        (optimization, "gradient_norm", "norm"),
        (optimization, "clip_gradients", "norm"),
        (optimization, "settle", "settling"),
        (averages.RunningStatistics, "keep", "settling"),
        (averages.RunningStatistics, "settle", "settling"),
        (averages.Ema, "update", "average"),
        (type(steps), "_penalise", "penalties"),
        (type(steps), "_backward", "loss"),
        (model, "forward", "forward"),
        (torch.autograd, "backward", "backward"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(counting.part("reading"))
        for owner, name, part in places:
            stack.enter_context(mock.patch.object(owner, name, _within(counting, part, getattr(owner, name))))
        yield


def _within(counting: Counting, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        with counting.part(part):
            return function(*args, **kwargs)

    return called


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="*", default=SPECS)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--level", type=int, default=1, choices=(0, 1))
    parser.add_argument("--batch", type=int, default=4, help="changes no count, as long as it is more than 1")
    parser.add_argument("--layouts", action="store_true", help="name what is not channels-last")
    parser.add_argument("--names", action="store_true", help="count by name, too")
    args = parser.parse_args(argv)
    for spec in args.spec:
        for precision in args.precision:
            overrides = {"train.precision": precision, "train.accumulate": 1}
            count = count_step(*built_on_meta(spec, args.level, **overrides), args.batch)
            print(f"{spec} {precision} -O{args.level}: {count.total:,} operations")
            for name, sums in (("by part", count.by_part()), ("by kind", count.by_kind())):
                print(f"  {name}: " + ", ".join(f"{key} {n:,}" for key, n in sums.most_common()))
            if args.names:
                for (part, name), n in count.names.most_common(60):
                    print(f"  {n:7,} {part}: {name}")
            if args.layouts:
                for title, places in (("turned", count.turned), ("in a convolution", count.unlike)):
                    for place, n in places.most_common():
                        print(f"  {title}: {n} x {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
