"""Pictures of the runs of `vdvae_photos_upscaling` and `vdvae_photos_inpainting`, on test crops.

`python scripts/photo_pictures.py RUN -o PICTURE.png`: for each of eight crops (evenly
spread over the half with more contrast) its original, what the model is given, a
plain guess, and three draws of the model
at temperature 0.8.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import hvdsl
from hvdsl.runtime.inference.image_files import labelled_rows, save_png

sys.path.insert(0, str(Path(__file__).parent))
import photo_baselines

SHOWN, DRAWS, GREY, TEMPERATURE = 8, 3, 128, 0.8


def draws(trained: hvdsl.Trained, given: dict[str, Tensor]) -> list[Tensor]:
    """Three images of the model for each image that it is given something of."""
    return [trained.sample(SHOWN, given=given, mean=True, temperature=TEMPERATURE, seed=seed) for seed in range(DRAWS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    trained = hvdsl.load(args.run, device="cpu")
    test = hvdsl.open_data(trained.spec).test
    spread = test.batch(range(len(test))).std((1, 2, 3))  # the duller half shows nothing
    lively = np.sort(np.argsort(spread)[len(test) // 2 :])
    places = lively[np.linspace(0, len(lively) - 1, SHOWN).astype(int)].tolist()
    if "upscaling" in trained.spec.model.settings.model:
        raw, fields = test.conditioned(places, ["low"])
        low = torch.from_numpy(fields["low"])
        guess = torch.from_numpy(photo_baselines.bicubic(fields["low"], raw.shape[2:]))
        given, rest = low.repeat_interleave(2, 2).repeat_interleave(2, 3), draws(trained, {"low": low})
        labels = ["original", "16x16", "bicubic"]
    else:
        raw, fields = test.conditioned(places, ["whole", "hole"])
        whole, hole = torch.from_numpy(fields["whole"]), torch.from_numpy(fields["hole"])
        guess = torch.from_numpy(photo_baselines.filled(raw.astype(np.int64), fields["hole"] > 0))
        given = torch.where(hole > 0, GREY, whole)
        drawn = draws(trained, {"whole": given, "hole": hole})  # what is hidden is not given
        rest = [torch.where(hole > 0, each, whole) for each in drawn]
        labels = ["original", "what is left", "smooth"]
    rows = [torch.from_numpy(raw), given, guess, *rest]
    save_png(labelled_rows(rows, [*labels, *(f"draw {i + 1}" for i in range(DRAWS))], 8), args.output)


if __name__ == "__main__":
    main()
