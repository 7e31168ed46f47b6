"""What a spec's settings sections say, validated.

The runtime reads these models; nothing here knows of text or torch.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hvdsl.compiler.setting_words import (
    Anneal,
    AtLeast,
    ByPattern,
    ByRate,
    BySize,
    Cyclic,
    Duration,
    LogisticRamp,
    PixelExpression,
    Ramp,
    SettingError,
    Settings,
    WithBeta,
)


class LatentSettings(Settings):
    """`z ~ P posterior Q { weight = 0.5 }`: what is said of one latent; None: as the objective or `sample` says."""

    weight: float = Field(default=1.0, ge=0, description="factor on this latent's rate in the objective")
    free: AtLeast | Literal["none"] | None = Field(
        default=None, description="free bits of this latent, in the place of the objective's"
    )
    temperature: float | None = Field(
        default=None, ge=0, description="scale factor of this latent's prior in sampling, in the place of `sample`'s"
    )


Size = Annotated[int, Field(ge=1)]
Border = Annotated[int, Field(ge=0, le=2**16)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)] | WithBeta
Holdout = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)]


class Resize(Settings):
    """`stretch(HxW)`: to that size whatever the proportions. `fit(HxW)`: as large as fits, the rest filled with 0."""

    WORDS = {"stretch": ("size",), "fit": ("size",)}

    kind: Literal["stretch", "fit"]
    size: tuple[Size, Size]  # height, width


class RandomCrop(Settings):
    """`random(HxW)`: a window at a random place in training, the middle one in evaluation; after `resize` and `pad`."""

    WORDS = {"random": ("size",)}

    kind: Literal["random"] = "random"
    size: tuple[Size, Size]  # height, width


LABEL = "label"
"""The condition that is the class of an image: `classes = 10` is short for `given label = 10 classes`."""


class ConditionSettings(Settings):
    """`given NAME = 3x16x16 { … }` in `data`: a field beside each image, that the model may be told."""

    name: str
    shape: tuple[Size, Size, Size]  # C, H, W; of classes (classes, 1, 1)
    classes: int | None = Field(default=None, ge=1)
    input: Annotated[str, PixelExpression] = "v"  # how the model takes the field's numbers; classes are one-hot
    drop: Rate = 0.0  # how often training leaves it out
    source: Literal["image", "box"] | str | None = None  # None: an array of that name, or the images' classes
    column: str | None = None  # of a table; by default that of its name

    @property
    def channels(self) -> int:
        """Channels of the tensor that recipes see: one more says whether a field that may be dropped is there."""
        return self.shape[0] + (self.drop > 0 and self.classes is None)

    @property
    def is_map(self) -> bool:
        """Whether the field has places, as an image has."""
        return self.shape[1:] != (1, 1)


CODES = "codes"
"""The name of data that are codes from a file, and no images."""


class CodeLevel(Settings):
    """`codes(classes, grid, depth)` in `levels`: codes 0 … classes - 1 at each position, `depth` of them."""

    WORDS = {"codes": ("classes", "grid", "depth")}

    kind: Literal["codes"] = "codes"
    classes: int = Field(ge=2, le=2**31, description="how many different codes there are")
    grid: tuple[Size, Size] = Field(description="height and width of the map")
    depth: int = Field(default=1, ge=1, le=2**10, description="codes at each position, of residual quantization")


class Data(Settings):
    TAKES = {"binarize": {"bernoulli": ("binarize_every",)}}

    name: str
    shape: tuple[Size, Size, Size]  # C, H, W after crop, resize and pad
    bits: int = Field(default=8, ge=1, le=16)
    values: Literal["scaled", "levels", "real"] = "scaled"  # what a stored number means
    alpha: Literal["white", "black", "grey", "drop", "channel"] | None = None  # None: `background` says
    input: Annotated[str, PixelExpression] = (
        "v"  # canonical text of an expression in `v`; `hvdsl.compiler.assembly.pixels` reads it
    )
    target: Annotated[str, PixelExpression] | None = None  # None: as the input; of `v`, of fields of its shape, or both
    weight: Annotated[str, PixelExpression] | None = None  # of each pixel in the likelihood, from fields
    given: tuple[ConditionSettings, ...] = ()
    source: str | None = None
    levels: Annotated[dict[str, CodeLevel], ByPattern] = {}  # of `data codes`: what a file holds of each latent
    classes: int | None = Field(default=None, ge=1)
    flip: bool = False
    shift: int = Field(default=0, ge=0)  # pixels, at most, each way; in training
    crop: tuple[Border, Border, Size, Size] | RandomCrop | None = None  # left, top, right, bottom, in the file's pixels
    resize: tuple[Size, Size] | Resize | None = None  # height, width
    pad: Border | tuple[Border, Border, Border, Border] = 0  # top, bottom, left, right
    binarize: Literal["none", "threshold", "bernoulli"] = "none"
    binarize_every: Literal["access", "epoch", "once"] = Field(default="access", alias="every")
    holdout: Holdout | None = None
    split_seed: int = 0

    @property
    def conditions(self) -> tuple[ConditionSettings, ...]:
        """The fields that recipes may name, in order: those of `given`, and `label` where there are `classes`."""
        if self.classes is None or any(field.name == LABEL for field in self.given):
            return self.given
        return (*self.given, ConditionSettings(name=LABEL, shape=(self.classes, 1, 1), classes=self.classes))

    @property
    def is_codes(self) -> bool:
        """Whether these are codes from a file: then there are priors alone, and no images."""
        return self.name == CODES

    @property
    def background(self) -> str:
        """What becomes of transparency: `alpha`, or else a channel where the shape has one for it, or white."""
        return self.alpha or ("channel" if self.shape[0] in (2, 4) else "white")

    @property
    def is_real(self) -> bool:
        """Whether pixels are real numbers, which have no bits."""
        return self.values == "real"

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """What `pad` adds at the top, bottom, left and right."""
        return (self.pad,) * 4 if isinstance(self.pad, int) else self.pad

    @property
    def size_before_random_crop(self) -> tuple[int, int] | None:
        """Height and width after `crop`, `resize` and `pad`, where these alone say them."""
        if isinstance(self.resize, Resize):
            height, width = self.resize.size
        elif self.resize is not None:
            height, width = self.resize
        elif isinstance(self.crop, tuple):
            left, top, right, bottom = self.crop
            height, width = bottom - top, right - left
        else:
            return None
        top, bottom, left, right = self.borders
        return height + top + bottom, width + left + right


class ObjectiveSettings(Settings):
    unit: Literal["nats_per_image", "nats_per_dim", "mean_square", "mean_absolute"]
    kl: Literal["closed", "sample"] = "closed"
    samples: int = Field(default=1, ge=1)
    bound: Literal["elbo", "iwae"] = "elbo"
    chunk: int = Field(default=1, ge=1)
    beta: Annotated[float, Field(ge=0)] | Ramp | Anneal | Cyclic | LogisticRamp = 1.0
    balance: BySize | ByRate | None = None
    free: AtLeast | None = None
    commitment: Weight = 0.0
    spectral: Weight = 0.0
    batch_norm_gamma: Weight = 0.0

    @property
    def of_error(self) -> bool:
        """Whether a reconstruction error is minimised, beside which rates are only reported."""
        return self.unit in ("mean_square", "mean_absolute")


class L2(Settings):
    """`l2(w)`: weight decay that goes into the gradient. A number of `adamw`, `adamax` or `sgd` is decoupled."""

    WORDS = {"l2": ("weight",)}

    kind: Literal["l2"] = "l2"
    weight: float = Field(ge=0)


_ADAM = ("lr", "betas", "eps", "weight_decay", "decay_only", "bias_correction")


class Optimizer(Settings):
    WORDS = {
        "adam": _ADAM,
        "adamw": _ADAM,
        "adamax": _ADAM,
        "sgd": ("lr", "momentum", "weight_decay", "decay_only"),
    }

    kind: Literal["adam", "adamw", "adamax", "sgd"]
    lr: float = Field(gt=0, le=1e4)
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=1e4)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: Annotated[float, Field(ge=0, le=1e4)] | L2 = 0.0
    decay_only: Literal["all", "weights"] = "all"
    bias_correction: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Adam with decoupled decay is AdamW (Loshchilov & Hutter 2019): a number of `adam` could mean either."""
        decay = self.weight_decay
        if self.kind == "adam" and not isinstance(decay, L2) and decay != 0:
            raise SettingError(
                "weight_decay",
                "a `weight_decay` of `adam` can be meant in two ways",
                "a decoupled decay of `adamw`, or `l2(…)`, which goes into the gradient",
                f"write `adamw(weight_decay = {decay:g})` or `adam(weight_decay = l2({decay:g}))`",
            )
        if self.kind == "adamw" and isinstance(decay, L2):
            raise SettingError(
                "weight_decay",
                "`adamw` with `l2` is `adam`",
                "a number, which `adamw` decouples from the gradient",
                f"write `adamw(weight_decay = {decay.weight:g})` or `adam(weight_decay = l2({decay.weight:g}))`",
            )
        return self


class Schedule(Settings):
    """After the warm-up. `floor` is a rate; cosine falls from `after` over `over` (default: what is left)."""

    WORDS = {
        "constant": (),
        "cosine": ("floor", "after", "over", "per"),
        "exponential": ("factor", "floor", "per"),
        "one_cycle": ("warm", "floor"),
    }

    kind: Literal["constant", "cosine", "exponential", "one_cycle"] = "constant"
    floor: float = Field(default=0.0, ge=0)
    after: Duration | None = None
    over: Duration | None = None
    per: Literal["step", "epoch"] = "step"
    factor: float | None = None  # exponential: per step
    warm: float | None = None  # one_cycle: the rising fraction


class Quantile(Settings):
    """`quantile(q, times, over)`: a threshold that follows the norms of the last `over` steps."""

    WORDS = {"quantile": ("q", "times", "over")}

    kind: Literal["quantile"] = "quantile"
    q: float = Field(default=0.99, gt=0, le=1)
    times: float = Field(default=2.0, gt=0, le=1e6)
    over: int = Field(default=1000, ge=20, le=100_000)


class Best(Settings):
    """`best(metric, newest)`: the checkpoint that is evaluated best, beside the newest."""

    WORDS = {"best": ("metric", "newest")}

    kind: Literal["best"] = "best"
    metric: Literal["bits_per_dim", "error_per_dim", "nats_per_code"] = "bits_per_dim"
    newest: int = Field(default=2, ge=1)


class Budget(Settings):
    """`budget(bytes)`: what the activations of a process may take; the fewest recipes for it are run again."""

    WORDS = {"budget": ("bytes",)}

    kind: Literal["budget"] = "budget"
    bytes: int = Field(ge=1, description="as in `budget(8GiB)`")


class ParameterGroup(Settings):
    """`trained(lr, weight_decay)` or `frozen`: how the parameters that a pattern matches are trained."""

    WORDS = {"trained": ("lr", "weight_decay"), "frozen": ()}

    kind: Literal["trained", "frozen"]
    lr: float | None = Field(
        default=None, gt=0, description="their peak rate, on the schedule of all; none: that of all"
    )
    weight_decay: float | None = Field(
        default=None, ge=0, description="theirs, of the kind that the optimizer's is; none: that of all"
    )


class Train(Settings):
    TAKES = {"precision": {"fp16": ("initial_scale",)}}

    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch: int = Field(ge=1)  # over all devices
    optimizer: Optimizer
    groups: Annotated[dict[str, ParameterGroup], ByPattern] = Field(
        default={},
        description="by pattern of parameter names (the first that matches): `trained(…)` or `frozen`",
    )
    schedule: Schedule = Schedule()
    warmup: Duration = Duration(n=0)
    clip: float | None = Field(default=None, gt=0)  # global norm
    clip_each: float | None = Field(default=None, gt=0)
    skip_above: Annotated[float, Field(gt=0)] | Quantile | None = None  # global norm before clipping
    ema: float | None = Field(default=None, ge=0, lt=1)
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    initial_scale: float = Field(default=65536.0, gt=0, le=2.0**60)  # fp16 only
    accumulate: int = Field(default=1, ge=1)
    checkpointing: Literal["none", "group"] | Budget = "none"  # budget: of one process
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=100, ge=1)
    evaluate_every: Duration | None = None
    sample_every: Duration | None = None
    checkpoint_every: Duration = Duration(n=1000)
    keep: Annotated[int, Field(ge=1)] | Best = 2
    patience: int | None = Field(default=None, ge=1)  # validations


class Evaluate(Settings):
    samples: int = Field(default=1, ge=1)
    use_ema: bool = True


class SampleSettings(Settings):
    temperature: float = Field(default=1.0, ge=0)
    recalibrate_batch_norm: int = Field(default=0, ge=0)
    use_ema: bool = True


class ModelSettings(Settings):
    """Every settings section of a spec, complete."""

    model: str
    title: str = ""
    data: Data
    objective: ObjectiveSettings
    train: Train | None = None  # None: the spec gives none, and `hvdsl train` says so
    train_priors: dict[str, Train] = {}
    evaluate: Evaluate = Evaluate()
    sample: SampleSettings = SampleSettings()


DATA_NAMES = (
    "digits",
    "photos",
    "mnist",
    "omniglot",
    "cifar10",
    "imagenet32",
    "imagenet64",
    "celeba64",
    "celebahq256",
    "ffhq256",
    "ffhq1024",
    "images",
    "arrays",
    CODES,
)

SECTIONS: dict[str, type[Settings]] = {
    "data": Data,
    "objective": ObjectiveSettings,
    "train": Train,
    "evaluate": Evaluate,
    "sample": SampleSettings,
}


def keys(section: type[Settings]) -> tuple[str, ...]:
    """Return the keys that a spec may set in a section."""
    inner = {field for words in section.TAKES.values() for fields in words.values() for field in fields}
    outside = {"name", "given"} | inner  # what stands before the braces, or has a form of its own
    return tuple(field.alias or name for name, field in section.model_fields.items() if name not in outside)
