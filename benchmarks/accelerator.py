"""What one accelerator makes of the shipped models: correctness first, then speed, in one command.

    python -m benchmarks.accelerator [--quick] [--json FILE] [--device cuda] [--only SECTION …] [--seconds 450]

Sections, each within its share of the time: `ceilings` (copy bandwidth, matrix peak, launches per second), `parity`
(the same parameters, pixels and noise on CPU and device, in float32), `steps` (training: images/s, memory, shares of
the ceilings, how long host and device are busy, operations), `sampling`, `priors`, `kernels` (the ten heaviest).
Pixels are synthetic. A failing case is reported as what it is and makes the exit code 1; one that does not fit the
time left is listed as left out, and one that runs into the end of all time fails. Runs on a CPU too, and from a plain
checkout: torch, numpy, pydantic, lark, networkx and rich are all it needs.
The share of the copy bandwidth is of the least traffic: all that a step holds in memory, written and read once.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import hvdsl
from benchmarks.launches import operations_of
from hvdsl.compiler.analysis.cost import cost
from hvdsl.compiler.settings import ModelSettings
from hvdsl.runtime.ground.noise import SampleNoise
from hvdsl.runtime.ground.world import World
from hvdsl.runtime.inference.generate import sample
from hvdsl.runtime.layers import initialize
from hvdsl.runtime.objective.elbo import ModelBatch
from hvdsl.runtime.objective.objective import Objective
from hvdsl.runtime.priors.protocol import StepwisePrior
from hvdsl.runtime.priors.sampling import draw_codes, greedy
from hvdsl.runtime.protocol import as_vae
from hvdsl.runtime.training.batches import PixelBatch
from hvdsl.runtime.training.schedule import Clock
from hvdsl.runtime.training.step.optimization import Optimization
from hvdsl.runtime.training.tasks import ImageTask
from hvdsl.workflows.plan import make_plan
from hvdsl.workflows.runs import instantiate_prior, steps_of

LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-4  # relative, float32 against float32
WARM_UP = {"cuda": 6, "cpu": 1}  # steps: libraries choose their kernels, graphs are captured
SMALL = ("vdvae_digits", "nvae_digits", "vqvae2_photos", "vdvae_photos", "ladder_mnist")
PARTS = {"ceilings": 0.04, "parity": 0.12, "steps": 0.58, "sampling": 0.08, "priors": 0.1, "kernels": 0.08}


@dataclass(frozen=True, slots=True)
class Case:
    """A training step to be measured."""

    spec: str
    batch: int
    precision: str
    level: int = 1
    graphs: bool = False


STEPS = [
    *(Case("vdvae_cifar10", 32, p, graphs=g) for p in ("fp32", "tf32", "bf16") for g in (False, True)),
    *(Case("vdvae_cifar10", 128, p, graphs=g) for p in ("bf16",) for g in (False, True)),
    *(Case("vdvae_ffhq256", 4, p, graphs=g) for p in ("tf32", "bf16") for g in (False, True)),
    Case("vdvae_ffhq256", 16, "bf16", graphs=True),
    *(Case("nvae_cifar10", 32, p, graphs=g) for p in ("tf32", "bf16") for g in (False, True)),
    Case("nvae_cifar10", 32, "fp16"),
    *(Case("nvae_mnist", 200, p, graphs=g) for p in ("tf32", "bf16") for g in (False, True)),
    *(Case("vqvae2_256", 32, p) for p in ("tf32", "bf16")),
    *(Case("lvae_mnist", 256, "fp32", graphs=g) for g in (False, True)),
    *(Case("vdvae_cifar10", 32, "bf16", level=level) for level in (0, 2)),
    Case("nvae_cifar10", 32, "fp16", level=2),
]
QUICK = [
    *(Case("vdvae_cifar10", 32, p, graphs=g) for p in ("tf32", "bf16") for g in (False, True)),
    *(Case("nvae_cifar10", 32, "bf16", graphs=g) for g in (False, True)),
    Case("vqvae2_256", 32, "bf16"),
    *(Case("vdvae_ffhq256", 4, "bf16", graphs=g) for g in (False, True)),
    *(Case("lvae_mnist", 256, "fp32", graphs=g) for g in (False, True)),
]
ON_CPU = [Case("vdvae_digits", 16, "fp32"), Case("vdvae_cifar10", 2, "fp32"), Case("vdvae_cifar10", 2, "bf16")]


class OutOfTimeError(Exception):
    """A measurement was under way when the time for all of them ended."""


def _out_of_time(*_: object) -> None:
    raise OutOfTimeError("the time for all sections has ended")


@dataclass(slots=True)
class Report:
    """What was measured, printed as it comes.

    Attributes:
        last: When all must be done, by the monotonic clock.
        end: When the section at hand begins no other case.
    """

    device: torch.device
    last: float
    end: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: int = 0
    ceilings: dict[str, float] = field(default_factory=dict)

    def add(self, section: str, text: str, **row: Any) -> None:
        self.rows.append({"section": section, **row})
        print(f"{section:9} {text}", flush=True)

    def fail(self, section: str, what: str, error: Exception) -> None:
        self.failures += 1
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        self.add(section, f"{what}: FAILED, {reason}", case=what, failed=reason)

    @contextmanager
    def case(self, section: str, what: str) -> Iterator[None]:
        """One measurement: a failure is a row, and the next one starts from a clean device."""
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self.last - time.monotonic()))
        try:
            yield
        except Exception as error:  # whatever it is: the others go on
            self.fail(section, what, error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections and print what came of each; 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=450, help="for all sections together")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    report = Report(device, time.monotonic() + args.seconds)
    handler = signal.signal(signal.SIGALRM, _out_of_time)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"hvdsl {hvdsl.__version__}, torch {torch.__version__}, {name}, {time.strftime('%Y-%m-%d')}")
    sections: dict[str, Callable[[Report, bool], None]] = {
        "ceilings": ceilings,
        "parity": parity,
        "steps": steps,
        "sampling": sampling,
        "priors": priors,
        "kernels": kernels,
    }
    for section in (s for s in sections if s in args.only):
        report.end = min(time.monotonic() + args.seconds * PARTS[section], report.last)
        with report.case(section, "the section itself"):
            sections[section](report, args.quick)
    signal.signal(signal.SIGALRM, handler)
    if args.json:
        text = {
            "format": 2,
            "device": name,
            "date": time.strftime("%Y-%m-%d"),
            "command": ["python", "-m", "benchmarks.accelerator", *(sys.argv[1:] if argv is None else argv)],
            "hvdsl": hvdsl.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "failures": report.failures,
            "rows": report.rows,
        }
        with open(args.json, "w", encoding="utf-8") as file:  # noqa: PTH123  # any path, a device too
            json.dump(text, file, indent=1)
    return 1 if report.failures else 0


def ceilings(report: Report, quick: bool) -> None:
    """What the device can do at most: every share below is of these."""
    device = report.device
    size = 2**28 if device.type == "cuda" else 2**24
    source = torch.randn(size, device=device)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), device, 10, min)
    report.ceilings["bytes"] = 2 * 4 * size / seconds
    report.add("ceilings", f"copy {report.ceilings['bytes'] / 1e9:,.0f} GB/s", copy=report.ceilings["bytes"])
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        n = 8192 if device.type == "cuda" else 1024
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        flops = 2 * n**3 / timed(lambda a=a, b=b: a @ b, device, 5, min)
        report.ceilings[name] = flops
        report.add("ceilings", f"{name} matrix product {flops / 1e12:,.3g} TFLOP/s", precision=name, flops=flops)
    x = torch.zeros(16, device=device)
    launches = 1000 / timed(lambda: [x.add_(1) for _ in range(1000)], device, 3, min)
    report.add("ceilings", f"{launches / 1e3:,.0f} thousand small operations a second", launches=launches)


def parity(report: Report, quick: bool) -> None:
    """The same parameters, pixels and noise on CPU and device, in float32: loss and gradients agree."""
    for spec in SMALL[: 3 if quick else None]:
        with report.case("parity", spec):
            if time.monotonic() > report.end:
                report.add("parity", f"{spec}: left out, no time", case=spec, left_out=True)
                continue
            losses, gradients = zip(
                *(_loss_and_gradients(spec, d) for d in (torch.device("cpu"), report.device)), strict=True
            )
            loss = abs(losses[0] - losses[1]) / abs(losses[0])
            pairs = list(zip(*gradients, strict=True))
            apart = max(float((a - b).norm() / a.norm()) for a, b in pairs if a.norm() > 0)
            size = torch.cat([a.reshape(-1) for a, _ in pairs]).norm()
            whole = float(torch.cat([(a - b).reshape(-1) for a, b in pairs]).norm() / size)
            report.add(
                "parity",
                f"{spec:16} loss {loss:.1e}, gradient {whole:.1e} (worst tensor {apart:.1e})",
                case=spec,
                loss=loss,
                gradient=whole,
                worst=apart,
            )
            if loss > LOSS_LIMIT or whole > GRADIENT_LIMIT:
                raise AssertionError(f"limits are {LOSS_LIMIT:g} and {GRADIENT_LIMIT:g}")


def _loss_and_gradients(spec: str, device: torch.device) -> tuple[float, list[torch.Tensor]]:
    settings, model = _model(spec)
    model.to(device).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    vae = as_vae(model)
    pixels = torch.from_numpy(_pixels(settings, 4).astype(np.float32)).to(device)
    noise = _CpuNoise(SampleNoise(0, range(4)), device)
    batch = ModelBatch(vae.input(pixels), vae.target(pixels), noise)
    loss, _ = Objective(settings.objective, Clock(100, 1000).steps, lambda t: t)(model, batch, 500)
    torch.autograd.backward(loss)
    return loss.item(), [p.grad.double().cpu() for p in model.parameters() if p.grad is not None]


class _CpuNoise:
    """Noise drawn on the CPU, handed on to a device: both sides meet the same numbers."""

    def __init__(self, noise: SampleNoise, device: torch.device) -> None:
        self._noise, self._device, self.batch = noise, device, noise.batch

    def normal(self, stream: str, shape: Sequence[int]) -> torch.Tensor:
        return self._noise.normal(stream, shape).to(self._device)

    def uniform(self, stream: str, shape: Sequence[int], low: float, high: float) -> torch.Tensor:
        return self._noise.uniform(stream, shape, low, high).to(self._device)


def steps(report: Report, quick: bool) -> None:
    """Training steps, as the trainer makes them: input, noise, loss, gradient, update, average."""
    cases = ON_CPU if report.device.type == "cpu" else QUICK if quick else STEPS
    for case in cases:
        what = f"{case.spec} x{case.batch} {case.precision} -O{case.level}{' graph' if case.graphs else ''}"
        if time.monotonic() > report.end:
            report.add("steps", f"{what}: left out, no time", case=what, left_out=True)
            continue
        with report.case("steps", what):
            _step(report, case, what)
        if time.monotonic() > report.end:
            continue
        with report.case("steps", f"operations of {what}"):
            n = operations_of(case.spec, case.precision, min(case.level, 1))
            report.add("steps", f"{what}: {n:,} operations, counted on `meta`", case=what, operations=n)


def _step(report: Report, case: Case, what: str) -> None:
    device = report.device
    start = time.monotonic()
    stepper = _stepper(case, device)
    warm_up = WARM_UP[device.type]
    for turn in range(warm_up):
        stepper(turn)
    synchronize(device)
    ready = time.monotonic() - start
    rounds = []
    turn, host = warm_up, time.thread_time()
    begin = time.monotonic()
    while len(rounds) < 3 or (len(rounds) < 9 and time.monotonic() - begin < 3):
        t = time.monotonic()
        for _ in range(4 if device.type == "cuda" else 1):
            stepper(turn)
            turn += 1
        synchronize(device)
        rounds.append((time.monotonic() - t) / (4 if device.type == "cuda" else 1))
    wall = time.monotonic() - begin
    host = (time.thread_time() - host) / wall
    seconds = statistics.median(rounds)
    rate = case.batch / seconds
    row: dict[str, Any] = {"case": what, "images_per_s": rate, "seconds": seconds, "host": host, "setup_s": ready}
    text = f"{what:38} {rate:9,.1f} images/s"
    if device.type == "cuda":
        row["memory"] = torch.cuda.max_memory_allocated()
        text += f"  {row['memory'] / 2**30:6.1f} GiB"
        row["device"] = _device_busy(stepper, turn, seconds)
        text += f"  device {row['device']:4.0%}"
    overrides: dict[str, int | str] = {"train.batch": case.batch, "train.precision": case.precision}
    model = hvdsl.compile(case.spec, overrides=overrides).model
    row["predicted_memory"] = make_plan(model, 1).bytes
    if copies := report.ceilings.get("bytes"):
        row["traffic_share"] = 2 * row["predicted_memory"] / seconds / copies
        text += f"  {row['traffic_share']:5.1%} of the copies"
    flops = 6 * cost(model.graph).macs * rate
    peak = report.ceilings.get("bf16" if case.precision in ("bf16", "fp16") else "fp32")
    if peak:
        row["share"] = flops / peak
        text += f"  {row['share']:5.1%} of the {'bf16' if case.precision in ('bf16', 'fp16') else 'fp32'} peak"
    report.add("steps", f"{text}  host {host:4.0%}  ready {ready:.0f} s", **row)


def _device_busy(stepper: Callable[[int], None], turn: int, seconds: float) -> float:
    """The share of a step in which some kernel ran, by their summed times."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for i in range(2):
            stepper(turn + i)
        torch.cuda.synchronize()
    busy = sum(event.self_device_time_total for event in record.key_averages()) / 1e6
    return float(busy / (2 * seconds))


def sampling(report: Report, quick: bool) -> None:
    """Images from the prior of a continuous hierarchy."""
    small = report.device.type == "cpu"
    for spec, n in [("vdvae_digits", 16)] if small else [("vdvae_cifar10", 32), ("nvae_cifar10", 32)]:
        with report.case("sampling", spec):
            settings, model = _model(spec)
            model.to(report.device)
            seconds = timed(lambda m=model, d=settings.data, k=n: sample(m, d, k, batch=k), report.device, 3)
            report.add("sampling", f"{spec:16} {n} images in {seconds:.3f} s", case=spec, n=n, seconds=seconds)


def priors(report: Report, quick: bool) -> None:
    """Codes from an autoregressive prior, position by position."""
    small = report.device.type == "cpu"
    model = hvdsl.compile("vqvae2_photos" if small else "vqvae2_256").model
    latent = next(iter(model.priors))
    for batch in (1,) if quick or small else (1, 8, 64):
        with report.case("priors", f"{latent} x{batch}"):
            module = instantiate_prior(model, latent, 0, report.device)
            prior = StepwisePrior(module, steps_of(model, latent))
            start = time.monotonic()
            codes = draw_codes(prior, greedy, batch=batch)
            synchronize(report.device)
            seconds = time.monotonic() - start
            shape = "x".join(map(str, codes.shape[1:]))
            report.add("priors", f"{latent} {shape}, batch {batch}: {seconds:.2f} s", batch=batch, seconds=seconds)


def kernels(report: Report, quick: bool) -> None:
    """The ten heaviest kernels of one step of the largest shipped model that fits."""
    if report.device.type == "cpu":
        return
    from torch.profiler import ProfilerActivity, profile

    for case in (Case("vdvae_cifar10", 32, "bf16"), Case("nvae_cifar10", 32, "fp16"), Case("vdvae_ffhq256", 4, "bf16")):
        if time.monotonic() > report.end:
            break
        with report.case("kernels", case.spec):
            stepper = _stepper(case, report.device)
            for turn in range(3):
                stepper(turn)
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as record:
                stepper(3)
                torch.cuda.synchronize()
            events = [e for e in record.key_averages() if e.self_device_time_total > 0 and e.device_type.name == "CUDA"]
            total = sum(e.self_device_time_total for e in events)
            count = sum(e.count for e in events)
            report.add("kernels", f"{case.spec}: {count} kernels, {total / 1e3:.1f} ms", case=case.spec, kernels=count)
            for event in sorted(events, key=lambda e: -e.self_device_time_total)[:10]:
                share = event.self_device_time_total / total
                text = f"  {share:5.1%}  {event.count:6} x  {event.key[:90]}"
                report.add("kernels", text, kernel=event.key[:200], share=share, count=event.count)


def _model(spec: str, level: int = 1, **overrides: Any) -> tuple[ModelSettings, nn.Module]:
    compiled = hvdsl.compile(spec, level=0 if level == 0 else 1, overrides=overrides)
    model = compiled.build(0)
    initialize(model, 0)
    return compiled.model.settings, model


def _pixels(settings: ModelSettings, batch: int) -> np.ndarray[Any, Any]:
    data = settings.data
    most = 2 if data.binarize != "none" else 2**data.bits
    return np.random.default_rng(0).integers(0, most, (batch, *data.shape)).astype(np.uint8)


def _stepper(case: Case, device: torch.device) -> Callable[[int], None]:
    """What makes step number n of a case."""
    overrides: dict[str, Any] = {"train.precision": case.precision, "train.batch": case.batch}
    settings, model = _model(case.spec, case.level, **overrides)
    model.to(device)
    if case.level == 2:
        from hvdsl.runtime.training.step.recipes import compile_recipes

        compile_recipes(model)
    train, task = settings.train, ImageTask(settings.objective)
    optimization: Optimization[ModelBatch] = task.optimization(model, train, Clock(100, 10_000), World())
    if case.graphs and (reason := optimization.use_graphs()) is not None:
        raise hvdsl.Error(reason)
    model.train()
    pixels = _pixels(settings, case.batch)

    def step(number: int) -> None:
        optimization.launch(task.parts(model, PixelBatch(number, 0, pixels), train))
        if (refused := optimization.refused_graphs()) is not None:
            raise hvdsl.Error(refused)
        for _ in optimization.results(2):
            pass

    return step


def synchronize(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(
    work: Callable[[], object],
    device: torch.device,
    repeats: int,
    of: Callable[[list[float]], float] = statistics.median,
) -> float:
    """The median of the seconds that `work` takes, or what else is asked `of` them, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return of(seconds)


if __name__ == "__main__":
    sys.exit(main())
