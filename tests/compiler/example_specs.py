"""Write an example: several files after `# file: NAME`, options in a first line `# --set …` or `# @…`."""

from __future__ import annotations

import re
from pathlib import Path

SMALL = """hv 1
model small
let width = 8
data digits { shape = 1x8x8, bits = 4, input = v / 7.5 - 1 }
group layer {
  z ~ normal(conv(1x1, 8)) posterior normal(concat(x, skip) -> conv(1x1, 8))
  x + (z -> conv(1x1, width))
}
encoder {
  8: conv(3x3, width) -> tap -> avg_pool(2)
  4: conv(3x3, width) -> tap
}
decoder {
  4: learned(zeros, width) -> layer
  8: nearest(2) -> layer -> conv(1x1, logits)
}
likelihood discretized_logistic_mixture(2)
objective { unit = nats_per_dim }
train { steps = 100, batch = 8, optimizer = adam(lr = 1e-3) }
variant wide { let width = 16 }
"""


def write(text: str, folder: Path) -> tuple[str, list[str]]:
    """Write the files of an example; return the spec to check (with its variant) and the overrides."""
    options = re.match(r"# (--set|@)(.*)\n", text)
    parts = re.split(r"^# file: (\S+)\n", text, flags=re.MULTILINE)
    files = dict(zip(parts[1::2], parts[2::2], strict=True))
    main = "model.hv"
    if parts[0].strip():
        files[main] = parts[0]
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    place = str(folder / main)
    if options is None:
        return place, []
    value = options[2].strip()
    return (f"{place}@{value}", []) if options[1] == "@" else (place, [value])
