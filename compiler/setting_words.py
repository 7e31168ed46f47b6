"""What a setting may be beside a number or word: a length of training, a weight that moves in it, free bits.

Annotations are not postponed here, since pydantic would evaluate each of them when a command starts.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hvdsl.errors import HvdslError


class Settings(BaseModel):
    """Strict: `yes` is no number, `0.5` no count. A name that Python reserves has an alias."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True, defer_build=True)

    # The words that stand for this model, each with the fields that it takes, in order: `epochs(n)`.
    WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    TAG: ClassVar[str] = "kind"  # the field that says which word it was
    # Fields that are no keys of a section, but arguments of a word of another key: `fp16(initial_scale)`.
    TAKES: ClassVar[Mapping[str, Mapping[str, tuple[str, ...]]]] = {}


class SettingError(HvdslError):
    """Settings that contradict each other. `key` is the field at fault."""

    def __init__(self, key: str, message: str, expected: str, help: str = "") -> None:
        super().__init__(f"{message}: expected {expected}" + (f"; {help}" if help else ""))
        self.key, self.message, self.expected, self.help = key, message, expected, help


class PixelExpression:
    """Marks a text as an expression in the pixel `v`."""


class ByPattern:
    """Marks a mapping whose keys are patterns, written `["encoder.*": frozen]`."""


class Duration(Settings):
    """A length of training: a number of steps, of epochs, or a fraction of the whole run."""

    WORDS = {"epochs": ("n",), "fraction": ("n",)}  # a whole number by itself is a number of steps
    TAG = "unit"

    unit: Literal["steps", "epochs", "fraction"] = "steps"
    n: float = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _plain_number_is_steps(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"n": value}
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.unit == "steps" and self.n != int(self.n):
            raise SettingError("n", "a number of steps is whole", "a whole number, or `fraction(f)` of the run")
        if self.unit == "fraction" and self.n > 1:
            raise SettingError("n", "a fraction of the run is at most 1", "a number from 0 to 1")
        return self


class Ramp(Settings):
    """`ramp(from, start, length, floor)`: linear to 1 over `length` after `start`, never under `floor`."""

    WORDS = {"ramp": ("from_", "start", "length", "floor")}

    kind: Literal["ramp"] = "ramp"
    from_: float = Field(default=0.0, alias="from", ge=0, le=1)
    start: Duration = Duration(n=0)
    length: Duration
    floor: float = Field(default=0.0, ge=0, le=1)


class Anneal(Settings):
    """`linear(from, to, start, length)`, or along half a cosine: from one weight to another, which then stays."""

    WORDS = dict.fromkeys(("linear", "cosine"), ("from_", "to", "start", "length"))

    kind: Literal["linear", "cosine"]
    from_: float = Field(default=0.0, alias="from", ge=0, description="the weight at `start`")
    to: float = Field(default=1.0, ge=0, description="the weight after `length`, and from there on")
    start: Duration = Field(default=Duration(n=0), description="when it begins to move")
    length: Duration = Field(description="how long it moves")


class Cyclic(Settings):
    """`cyclic(length, rising, from, to, cycles)`: rises again and again (Fu et al. 2019)."""

    WORDS = {"cyclic": ("length", "rising", "from_", "to", "cycles")}

    kind: Literal["cyclic"] = "cyclic"
    length: Duration = Field(description="of one cycle")
    rising: float = Field(default=0.5, gt=0, le=1, description="the fraction of a cycle in which the weight rises")
    from_: float = Field(default=0.0, alias="from", ge=0, description="the weight at the start of each cycle")
    to: float = Field(default=1.0, ge=0, description="the weight at the end of each cycle")
    cycles: int | None = Field(default=None, ge=1, description="after so many the weight stays; none: never")


class LogisticRamp(Settings):
    """`logistic(middle, width, from, to)`: a sigmoid in time (Bowman et al. 2016)."""

    WORDS = {"logistic": ("middle", "width", "from_", "to")}

    kind: Literal["logistic"] = "logistic"
    middle: Duration = Field(description="when it is halfway")
    width: Duration = Field(description="the time in which it goes from 27 % to 73 % of the way")
    from_: float = Field(default=0.0, alias="from", ge=0, description="the weight long before the middle")
    to: float = Field(default=1.0, ge=0, description="the weight long after it")


class WithBeta(Settings):
    """`with_beta(first, last)`: a weight that moves from `first` to `last`, log-linear in beta."""

    WORDS = {"with_beta": ("first", "last")}

    kind: Literal["with_beta"] = "with_beta"
    first: float = Field(gt=0)
    last: float = Field(gt=0)


class BySize(Settings):
    """Balance groups by the size of their map while beta < 1 (NVAE, Vahdat & Kautz 2020)."""

    WORDS = {"by_size": ("weight",)}

    kind: Literal["by_size"] = "by_size"
    weight: Literal["square", "equal", "linear", "sqrt"] = "square"


class ByRate(Settings):
    """Balance groups by their mean rate per element (Efficient-VDVAE, Hazami 2022)."""

    WORDS = {"by_rate": ("until",)}

    kind: Literal["by_rate"] = "by_rate"
    until: Duration


class AtLeast(Settings):
    """Free bits: a rate under `nats` per `per` costs nothing."""

    WORDS = {"at_least": ("nats", "per", "take_max", "when")}

    kind: Literal["at_least"] = "at_least"
    nats: float = Field(ge=0)
    per: Literal["latent", "channel", "element"] = "latent"
    take_max: Literal["per_sample", "after_batch_mean"] = "after_batch_mean"
    when: Literal["training", "always"] = "always"
