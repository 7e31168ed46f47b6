"""The page that stands beside a model's weights: what it is, its numbers, its data, and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hvdsl.errors import HvdslError
from hvdsl.runtime.ground import metric_names as names
from hvdsl.runtime.ground.pixels import pixel_bits
from hvdsl.runtime.inference.generate import depths
from hvdsl.runtime.inference.image_files import grid, labelled_rows, save_png
from hvdsl.runtime.latents.conditions import conditions_of
from hvdsl.runtime.protocol import as_vae, is_quantized
from hvdsl.workflows.calls import no_global_effect
from hvdsl.workflows.conditions import stored_images
from hvdsl.workflows.open import Opened
from hvdsl.workflows.reconstruct import reconstruct_images
from hvdsl.workflows.runs import spread_indices, used_images
from hvdsl.workflows.sample import SampleOptions, draw_samples

PAGE = """---
license: {license}
library_name: hvdsl
tags: [vae, hierarchical-vae, pytorch]
---

# {title}

{parameters:,} parameters, {groups} latent groups, {steps:,} steps of training; images of {shape} (channels, height,
width){bits}.
{pictures}
## Numbers

{numbers}

## Data

{data}

## Use

With `hvdsl`:

```python
import hvdsl

trained = hvdsl.load("model.safetensors")
images = trained.{use}
```

Without it, in plain PyTorch:

```python
import torch, model
from safetensors.torch import load_file

net = model.Model()
net.load_state_dict(load_file("model.safetensors"))
latents = model.Traversal(net.LATENTS, 1, None, model.Source.POSTERIOR_MEAN)
parameters = net.eval()(net.input(torch.zeros(1, {shape})), latents{given})  # of the likelihood
```

`spec.hv` is the model as text: `hvdsl check`, `info`, `viz graph` and `train` take it. The weights have it in their
metadata.

## Licence

{licence}
"""


def model_card(opened: Opened, folder: Path, license: str | None) -> str:
    """Return the page, and write its pictures into the folder."""
    settings = opened.spec.model.settings
    shape = ", ".join(map(str, settings.data.shape))
    bits = pixel_bits(settings.data)
    return PAGE.format(
        license=license or "unknown",
        title=settings.title or settings.model,
        parameters=sum(p.numel() for p in opened.module.parameters()),
        groups=len(as_vae(opened.module).LATENTS),
        steps=opened.step,
        shape=shape,
        bits="" if settings.data.is_real else f", pixel values 0 … {2**bits - 1}",
        pictures=_pictures(opened, folder),
        numbers=_numbers(opened),
        data=_data(opened),
        use=_use(opened.module),
        given="".join(f", {name}={value}" for name, value in _keywords(opened.module).items()),
        licence=license or "Nobody has said under which licence these weights are: `hvdsl export --license` does.",
    )


def _use(module: nn.Module) -> str:
    """A first call of the library."""
    quantized = is_quantized(module)
    values = [f'"{c.name}": …' for c in conditions_of(module) if c.generative or quantized]
    given = f", given={{{', '.join(values)}}}" if values else ""
    return f"encode(images{given})" if quantized else f"sample(16{given})"


def _keywords(module: nn.Module) -> dict[str, str]:
    """What a model's `forward` takes by keyword, for one image of class 0 and zeros."""
    zeros = {c: f"torch.zeros({', '.join(map(str, (1, *c.stored)))})" for c in conditions_of(module)}
    classes = "torch.zeros(1, dtype=torch.int64)"
    return {c.argument or c.name: zero if c.classes is None else classes for c, zero in zeros.items()}


def _pictures(opened: Opened, folder: Path) -> str:
    """Draw samples, and reconstructions where the run's images are at hand; returns the lines that show them."""
    data, lines = opened.data, []
    given: dict[str, Tensor] = {}
    try:
        chosen = used_images(opened.run, data)
        images, given = stored_images(opened.module, chosen, spread_indices(chosen, 8))
    except HvdslError:
        images = None  # the card is written wherever the run is, also where its data are not
    conditions = [c for c in conditions_of(opened.module) if c.generative]
    if not is_quantized(opened.module) and all(c.droppable or c.name in given for c in conditions):
        own = {c.name: given[c.name] for c in conditions if c.name in given}
        with no_global_effect():
            samples = draw_samples(opened, SampleOptions(n=16, given=tuple(own.items())))
        save_png(grid(samples, pixel_bits(data)), folder / "samples.png")
        lines.append("![samples](samples.png)")
    if images is not None:
        groups = len(as_vae(opened.module).LATENTS)
        keep = depths(groups, 4)
        with no_global_effect():
            rows = [images, *(reconstruct_images(opened, images, keep=kept, given=given) for kept in keep)]
        labels = ["images", *(f"{kept} of {groups} groups" for kept in keep)]
        save_png(labelled_rows(rows, labels, pixel_bits(data)), folder / "reconstructions.png")
        lines.append("![images and their reconstructions](reconstructions.png)")
    return "\n" + "\n\n".join(lines) + "\n" if lines else ""


def _numbers(opened: Opened) -> str:
    """The latest validation at or before the step of the weights, as a table."""
    measured: dict[str, Any] = {}
    for row in opened.run.metrics() if opened.run is not None else []:
        if row.get("event") == "validation" and row.get("step", 0) <= opened.step:
            measured = row
    wanted = (names.BITS_PER_DIM, names.DISTORTION_NATS_PER_DIM, names.RATE_NATS_PER_DIM, names.ERROR_PER_DIM)
    rows = [f"| {name} | {measured[name]:.5g} |" for name in wanted if isinstance(measured.get(name), int | float)]
    if not rows:
        return "No validation was measured: `hvdsl eval` does."
    images = measured.get(names.IMAGES)
    where = f"validation, {images:,} images, step {measured['step']:,}" if isinstance(images, int) else "validation"
    return "\n".join([f"| {where} | |", "|---|---|", *rows])


def _data(opened: Opened) -> str:
    data = opened.spec.model.settings.data
    digest = None
    if opened.run is not None:
        entries = opened.run.history.entries()
        noted = entries[-1].get("data_digest") if entries else None
        digest = noted if isinstance(noted, str) else None
    trained = f"`data {data.name}` of the spec"
    return f"Trained on {trained}, digest `{digest}`." if digest else f"Trained on {trained}."
