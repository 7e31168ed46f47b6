"""Settings that contradict each other, or that nothing would read: refused with the reason (HV0604)."""

from __future__ import annotations

from hvdsl.compiler.diagnostics.settings import DOES_NOT_APPLY, EXAMPLES, MISSING_SETTING
from hvdsl.compiler.setting_words import Duration, WithBeta
from hvdsl.compiler.settings import L2, Best, Data, ObjectiveSettings, RandomCrop, Train, keys
from hvdsl.grammar import tree
from hvdsl.grammar.diagnostics import Diagnostic, Diagnostics


def _refuse(
    section: tree.SettingsNode, key: str, found: str, expected: str, help: str, diagnostics: Diagnostics
) -> None:
    place = next((s.span for s in section.settings if s.key.id == key), section.span)
    message = f"`{key}` does not apply here"
    diagnostics.add(Diagnostic(DOES_NOT_APPLY, message, place, found, expected, help))


def check_train_settings(train: Train, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Check the settings of one `train` section against each other."""
    if section.name is not None and train.sample_every is not None:
        _refuse(
            section,
            "sample_every",
            "samples of one prior, which are codes of one level and no pictures yet",
            "`evaluate_every`, which measures the prior on codes of validation images",
            "remove `sample_every`; `hvdsl sample` draws pictures once all priors are trained",
            diagnostics,
        )
    if train.steps is not None and train.epochs is not None:
        _refuse(
            section,
            "epochs",
            "both `steps` and `epochs`",
            "one length of training",
            "remove one of the two",
            diagnostics,
        )
    if train.evaluate_every is None and (train.patience is not None or isinstance(train.keep, Best)):
        key = "patience" if train.patience is not None else "keep"
        _refuse(
            section,
            key,
            f"`{key}` that goes by validations, and none are made",
            "`evaluate_every`, which says when the model is evaluated on the validation images",
            "add `evaluate_every = epochs(1)`, or remove it",
            diagnostics,
        )
    if train.clip is not None and isinstance(train.skip_above, float | int) and train.clip >= train.skip_above:
        _refuse(
            section,
            "clip",
            f"a clipping norm of {train.clip:g}, and steps skipped from {train.skip_above:g}",
            "`clip` under `skip_above`, which is compared with the norm before clipping",
            "no step would ever be clipped: lower `clip`, raise `skip_above`, or leave one out",
            diagnostics,
        )
    _check_decay(train, section, diagnostics)
    _check_lengths(train, section, diagnostics)


def _check_decay(train: Train, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Check the weight decay of a `train` section."""
    optimizer = train.optimizer
    if optimizer.decay_only == "weights" and optimizer.weight_decay == 0:
        _refuse(
            section,
            "optimizer",
            "`decay_only` without `weight_decay`",
            "a weight decay",
            "add `weight_decay`",
            diagnostics,
        )
    decays = [group.weight_decay for group in train.groups.values() if group.weight_decay]
    if decays and optimizer.kind == "adam" and not isinstance(optimizer.weight_decay, L2):
        _refuse(
            section,
            "groups",
            "a `weight_decay` of `adam`, which can be meant in two ways",
            "`adamw`, whose decay is decoupled, or `adam(weight_decay = l2(…))`, whose decay goes into the gradient",
            f"write `optimizer = adamw(lr = {optimizer.lr:g})`, or `adam(…, weight_decay = l2(0))`",
            diagnostics,
        )


def _check_lengths(train: Train, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Fractions of a run, and schedules that end with it, need a run with an end."""
    schedule = train.schedule
    if schedule.kind == "exponential" and schedule.factor is None:
        _refuse(
            section,
            "schedule",
            "`exponential` without its factor",
            "the factor per step",
            "as in `exponential(0.999999)`",
            diagnostics,
        )
    if train.steps is not None or train.epochs is not None:
        return
    endless = "a run without an end"
    finite = "`steps` or `epochs`"
    if (schedule.kind == "cosine" and schedule.over is None) or schedule.kind == "one_cycle":
        help = "give the run a length" + (", or the schedule `over = …`" if schedule.kind == "cosine" else "")
        _refuse(section, "schedule", endless, finite, help, diagnostics)
    for key in ("warmup", "evaluate_every", "sample_every", "checkpoint_every"):
        duration = getattr(train, key)
        if isinstance(duration, Duration) and duration.unit == "fraction":
            _refuse(
                section,
                key,
                f"a fraction of {endless}",
                finite,
                "give the run a length, or count in steps",
                diagnostics,
            )


def check_objective_settings(
    objective: ObjectiveSettings, section: tree.SettingsNode, diagnostics: Diagnostics
) -> None:
    """Check the settings of `objective` against each other."""
    if objective.of_error:
        _check_error(objective, section, diagnostics)
    if objective.chunk > objective.samples:
        _refuse(
            section,
            "chunk",
            f"passes of {objective.chunk} samples, where an image has {objective.samples}",
            f"`chunk` from 1 to {objective.samples}",
            "remove `chunk`, or give more `samples`",
            diagnostics,
        )
    if objective.bound == "iwae":
        _check_importance_weighted(objective, section, diagnostics)
    if objective.free is not None and objective.balance is not None:
        _refuse(
            section,
            "balance",
            "`free` and `balance`, which both reweight the rates",
            "one of the two",
            "remove `free` or `balance`",
            diagnostics,
        )


def _check_importance_weighted(
    objective: ObjectiveSettings, section: tree.SettingsNode, diagnostics: Diagnostics
) -> None:
    if objective.samples == 1:
        _refuse(
            section,
            "bound",
            "`iwae` of one sample, which is the ELBO",
            "`samples` of at least 2",
            "add `samples = 5`, or remove `bound`",
            diagnostics,
        )
    if objective.beta != 1:
        _refuse(
            section,
            "beta",
            "`beta` with the importance-weighted bound, whose weights are those of β = 1",
            "`beta = 1`",
            "train with the ELBO and `beta` first, then with `bound = iwae` in a variant",
            diagnostics,
        )
    if objective.free is not None or objective.balance is not None:
        key = "free" if objective.free is not None else "balance"
        _refuse(
            section,
            key,
            f"`{key}` with the importance-weighted bound, which has no rate per group",
            "`bound = elbo`",
            f"remove `{key}` or `bound`",
            diagnostics,
        )


def _check_error(objective: ObjectiveSettings, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Refuse what weighs rates, or follows their weight, where an error is minimised and rates are only reported."""
    for key in ("beta", "balance", "free"):
        if getattr(objective, key) != ObjectiveSettings.model_fields[key].default:
            _refuse(
                section,
                key,
                f"`{key}`, which weighs rates, and an objective in `{objective.unit}`, which has none",
                "an objective in nats",
                f"remove `{key}`, or take a likelihood that is a density",
                diagnostics,
            )
    for key in ("commitment", "spectral", "batch_norm_gamma"):
        if isinstance(getattr(objective, key), WithBeta):
            _refuse(
                section,
                key,
                f"`with_beta`, which follows the weight of the rate, and an objective in `{objective.unit}`, which has "
                "none",
                "a number",
                f"write the number: `{key} = 0.25`",
                diagnostics,
            )


# The named sets of grey images; the others are of colour.
_GREY = ("digits", "mnist", "omniglot")


def check_data_settings(data: Data, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Check the settings of `data` against each other: what no file can ever serve is refused here."""
    if data.binarize != "none" and data.shape[0] != 1:
        _refuse(
            section,
            "binarize",
            f"{data.shape[0]} channels",
            "grey images, which have one channel",
            "remove `binarize`, or take `shape = 1x…`",
            diagnostics,
        )
    _check_values(data, section, diagnostics)
    _check_geometry(data, section, diagnostics)


_OF_CODES = ("source", "levels", "classes", "holdout", "split_seed")  # what `data codes` takes


def check_code_levels(data: Data, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Check `data codes`, which has levels and nothing of images; and that no other data have levels."""
    if not data.is_codes:
        what, help = f"`levels` of `data {data.name}`, which are images", "write `data codes { … }`, or remove it"
        _refuse(section, "levels", what, "`levels` of `data codes` only", help, diagnostics)
        return
    if not data.levels:
        help = f"add `{EXAMPLES['levels']}`"
        message = "`data codes` says what its file holds"
        diagnostics.add(Diagnostic(MISSING_SETTING, message, section.span, "no `levels`", "`levels`", help))
    for setting in section.settings:
        key = setting.key.id
        if isinstance(setting, tree.ConditionNode):
            field = next((field for field in data.given if field.name == key), None)
            taken = key in data.levels or key in keys(Data)
            if field is not None and (taken or field.source is not None):
                found = f"`{key}`, which is taken" if taken else f"`source` of `given {key}`"
                expected = "a name of its own" if taken else "an array of that name in the file of codes"
                message = "this field does not stand beside codes"
                diagnostics.add(Diagnostic(DOES_NOT_APPLY, message, setting.span, found, expected))
        elif key not in _OF_CODES:
            what = f"`{key}`, which is of images, and codes from a file"
            known = ", ".join(f"`{word}`" for word in _OF_CODES)
            _refuse(section, key, what, f"{known} and `given`", f"remove `{key}`", diagnostics)


def _check_values(data: Data, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    written = {setting.key.id for setting in section.settings}
    channels = data.shape[0]
    if data.alpha == "channel" and channels not in (2, 4):
        expected = "2 channels (grey and alpha) or 4 (colours and alpha)"
        _refuse(
            section, "alpha", f"`alpha = channel` and {channels} channels", expected, "write `shape = 4x…`", diagnostics
        )
    if data.is_real:
        for key, why in (("bits", "real numbers, which have no bits"), ("binarize", "real numbers, not grey levels")):
            if key in written and getattr(data, key) != "none":
                help = f"remove `{key}` or `values = real`"
                _refuse(section, key, f"`{key}` of {why}", "one of the two", help, diagnostics)
        return
    if data.name in ("images", "arrays"):
        return
    if channels not in (1, 3):
        held = "grey" if data.name in _GREY else "colour"
        expected = "1 channel or 3: grey is repeated, colour is turned into grey"
        help = f"write `shape = {1 if data.name in _GREY else 3}x…`"
        what = f"{channels} channels of `{data.name}`, which are {held} images"
        _refuse(section, "shape", what, expected, help, diagnostics)
    if data.bits > 8:
        help = "write `bits = 8`, or name the data `images` or `arrays`"
        _refuse(section, "bits", f"{data.bits} bits of `{data.name}`, which has 8", "at most 8", help, diagnostics)


def _check_geometry(data: Data, section: tree.SettingsNode, diagnostics: Diagnostics) -> None:
    """Where `crop`, `resize` and `pad` say the final size, it must be that of `shape`."""
    if isinstance(data.crop, tuple):
        left, top, right, bottom = data.crop
        if right <= left or bottom <= top:
            what = f"a window from {left} to {right} across and from {top} to {bottom} down, which is empty"
            expected = "(left, top, right, bottom) with right over left and bottom over top"
            _refuse(section, "crop", what, expected, "order the four numbers so", diagnostics)
            return
    top, bottom, left, right = data.borders
    height, width = data.shape[1:]
    if not isinstance(data.crop, RandomCrop) and (top + bottom >= height or left + right >= width):
        what = f"borders of {top + bottom} by {left + right} within images of {_size(data.shape[1:])}"
        _refuse(section, "pad", what, "a border that leaves a part of the image", "lower `pad`", diagnostics)
        return
    if data.shift >= min(height, width):
        what = f"images of {_size(data.shape[1:])} moved by up to {data.shift:,}"
        _refuse(section, "shift", what, "less than the image", "lower `shift`", diagnostics)
    size = data.size_before_random_crop
    if size is None:
        if isinstance(data.crop, RandomCrop) and data.crop.size != data.shape[1:]:
            _refuse_size("crop", data.crop.size, data, section, diagnostics)
        return
    key = "resize" if data.resize is not None else "crop"
    if isinstance(data.crop, RandomCrop):
        if any(inside > outside for inside, outside in zip(data.crop.size, size, strict=True)):
            what = f"a window of {_size(data.crop.size)} in images of {_size(size)}"
            _refuse(section, "crop", what, "a window that fits", f"enlarge `{key}`, or lower `crop`", diagnostics)
        size, key = data.crop.size, "crop"
    if size != data.shape[1:]:
        _refuse_size(key, size, data, section, diagnostics)


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _refuse_size(
    key: str, size: tuple[int, int], data: Data, section: tree.SettingsNode, diagnostics: Diagnostics
) -> None:
    what = f"images of {_size(size)} after `crop`, `resize` and `pad`, and `shape = {_size(data.shape)}`"
    help = f"write `shape = {data.shape[0]}x{_size(size)}`, or correct `{key}`"
    _refuse(section, key, what, f"images of {_size(data.shape[1:])}", help, diagnostics)
