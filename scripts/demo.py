"""Train a small VDVAE on photographs and show what it learned: the documented commands, one after the other.

Run by `make demo`; everything is written to demo/. Takes about two minutes once installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

SPEC = "specs/vdvae_photos.hv"
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
    for suffix in ("png", "svg", "html"):
        hvdsl("viz", "graph", SPEC, "-o", OUT / f"graph.{suffix}")
    hvdsl("compile", SPEC, "-o", OUT / "model.py")
    hvdsl("train", SPEC, "--out", RUN, "--threads", "1")  # maps this small gain nothing from a second thread
    scores = json.loads(
        hvdsl("eval", RUN, "--split", "validation", "--baselines", "--json", "-o", OUT / "rates.png", capture=True)
    )
    hvdsl("sample", RUN, "-n", "36", "--temperature", "0.9", "--mean", "-o", OUT / "samples.png")
    hvdsl("reconstruct", RUN, "-o", OUT / "reconstructions.png")
    print(_summary(scores, time.monotonic() - started))


def _summary(scores: dict[str, float], seconds: float) -> str:
    lines = [f"\nValidation crops, bits per dimension ({scores['images']} images):"]
    lines.append(f"  this model             {scores['bits_per_dim']:.3f}")
    lines.append(f"  PNG                    {scores['png_bits_per_dim']:.3f}")
    lines.append(f"  histogram per position {scores['histogram_bits_per_dim']:.3f}")
    lines.append("\nLook at:")
    pictures = {
        "graph.png": "the hierarchy (also as graph.svg and graph.html)",
        "samples.png": "images drawn from the prior",
        "reconstructions.png": "what each depth of the hierarchy knows of an image",
        "rates.png": "nats that each latent group carries",
        "model.py": "the PyTorch module that the spec became",
        "run": "the run folder: metrics, checkpoints, spec",
    }
    lines += [f"  {OUT / name!s:<26} {what}" for name, what in pictures.items()]
    lines.append(f"\nDone in {seconds:.0f} s.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
