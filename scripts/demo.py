"""Train a small class-conditional VDVAE on handwritten digits and show what it learned.

Run by `make demo`; everything is written to demo/. The commands that it prints are the documented ones; pictures that
set things side by side are put together by `scripts/demo_pictures.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import demo_pictures

SPEC = "vdvae_digits_conditional"
OUT = Path("demo")
RUN = OUT / "run"


def hvdsl(*arguments: str | Path, capture: bool = False) -> str:
    """Run one command and show it; a failure ends the demo."""
    words = ["hvdsl", *(str(argument) for argument in arguments)]
    print(f"\n$ {' '.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", *words], stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    hvdsl("check", SPEC)
    hvdsl("info", SPEC)
    for suffix in ("png", "html"):
        hvdsl("viz", "graph", SPEC, "-o", OUT / f"graph.{suffix}")
    hvdsl("compile", SPEC, "-o", OUT / "model.py")
    hvdsl("train", SPEC, "--out", RUN, "--threads", "1")  # maps this small gain nothing from a second thread
    scores = json.loads(hvdsl("eval", RUN, "--baselines", "--json", "--threads", "1", capture=True))
    hvdsl("report", RUN, "-o", OUT / "report.html", "--threads", "1")
    by_class = demo_pictures.draw(RUN, OUT)
    print(summary(scores, by_class, time.monotonic() - started))


def summary(scores: dict[str, float], by_class: float, seconds: float) -> str:
    """The figures, and where to look."""
    lines = [
        f"\nBits per dimension of {scores['images']} test images (less is better):",
        f"  this model                        {scores['bits_per_dim']:.3f} ± {scores['standard_error']:.3f}",
        f"  a histogram per pixel and class   {by_class:.3f}",
        f"  a histogram per pixel             {scores['histogram_bits_per_dim']:.3f}",
        "\nLook at:",
    ]
    pictures = {
        "digits.png": "digits drawn by class, beside real ones",
        "counterfactuals.png": "the same hand, other digits",
        "depths.png": "what each depth of the hierarchy knows of an image",
        "graph.png": "the hierarchy; graph.html zooms, and shows what a piece is on click",
        "report.html": "the run on one page: curves, rates, samples",
        "model.py": "the PyTorch module that the spec became",
        "run": "the run folder: metrics, checkpoints, spec",
    }
    lines += [f"  {OUT / name!s:<26} {what}" for name, what in pictures.items()]
    lines.append(f"\nDone in {seconds:.0f} s.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
