"""Put generated specs and structural mutants of them to the law: what `check` accepts, works.

    python scripts/law.py --count 5000 --seed 20261128

Half of the cases are mutants. Prints the texts that break the law by kind, how many were accepted, and what refused
the rest.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from tests.compiler.law.law import judge
from tests.compiler.law.test_law import text_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first case")
    parser.add_argument("--show", type=int, default=1, help="texts to print of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kinds: dict[str, list[int]] = {}
    refused: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    accepted, begin = 0, time.process_time()
    for case in range(args.start, args.start + args.count):
        if case % 500 == 0:
            print(f"case {case}, {accepted} accepted", file=sys.stderr, flush=True)
        text = text_of(str(args.seed), case)
        verdict = judge(text)
        if verdict.broken:
            kind = re.sub(r"\d+", "N", verdict.broken)[:160]
            if len(kinds.setdefault(kind, [])) < args.show:
                print(f"--- case {case}: {verdict.broken}\n{text}", flush=True)
            kinds[kind].append(case)
        elif verdict.refused:
            refused.update(verdict.refused)
            if case % 2 == 0:
                print(f"--- case {case}: a generated spec is refused: {verdict.refused}\n{text}", flush=True)
        else:
            accepted += 1
            warned.update(verdict.warned)
    print(f"{args.count} cases, {accepted} accepted and lawful, {time.process_time() - begin:.0f} s")
    print("refused:", ", ".join(f"{code} {n}" for code, n in refused.most_common()))
    print("warned:", ", ".join(f"{code} {n}" for code, n in warned.most_common()))
    for kind, cases in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        print(f"{len(cases):5}  {kind}  (cases {', '.join(map(str, cases[:5]))})")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
