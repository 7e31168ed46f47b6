"""Wrong inputs of the command line: one sentence, the right exit code, nothing half written."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hvdsl.cli.main import main
from hvdsl.runtime.ground.disk import write_output

from .conftest import TINY, Hvdsl

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.hv").write_text(TINY)
    assert main(["train", str(folder / "tiny.hv"), "--out", str(folder / "run"), "--device", "cpu"]) == 0
    return folder / "run"


def test_what_cannot_be_trained_leaves_no_run_folder(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    for options in (["--data", tmp_path / "nothing"], ["--batch", "100_000"]):
        result = hvdsl("train", tiny, "--out", tmp_path / "run", "--device", "cpu", *options)
        assert result.code == 1
        assert result.err.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_images_of_another_size_than_the_spec_s_leave_no_run_folder(hvdsl: Hvdsl, tmp_path: Path) -> None:
    spec, images = tmp_path / "spec.hv", tmp_path / "images.npy"
    spec.write_text(TINY.replace("data digits", "data images"))
    np.save(images, np.zeros((40, 9, 9), np.uint8))
    result = hvdsl("train", spec, "--data", images, "--out", tmp_path / "run", "--device", "cpu")
    assert result.code == 1
    assert "is 1x9x9, the spec's data section says 1x8x8" in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("command", "option"), [("sample", "--data"), ("eval", "--workers"), ("eval", "--out")])
def test_an_option_without_effect_does_not_exist(hvdsl: Hvdsl, tmp_path: Path, command: str, option: str) -> None:
    result = hvdsl(command, tmp_path, option, "2")
    assert result.code == 2
    assert "unrecognized arguments" in result.err


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "warm"])
def test_a_temperature_is_a_number_of_at_least_0(hvdsl: Hvdsl, tmp_path: Path, command: str, value: str) -> None:
    result = hvdsl(command, tmp_path, f"--temperature={value}")
    assert result.code == 2
    assert f"found `{value}`" in result.err


@pytest.mark.parametrize("text", ["garbage", "[]", ""])
def test_a_damaged_environment_is_one_sentence(hvdsl: Hvdsl, trained: Path, tmp_path: Path, text: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "environment.json").write_text(text)
    result = hvdsl("eval", run, "--device", "cpu")
    assert result.code == 1
    assert "environment.json is damaged" in result.err


def test_a_truncated_checkpoint_is_one_sentence(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    weights = run / "checkpoints" / "3" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    result = hvdsl("eval", run, "--device", "cpu")
    assert result.code == 1
    assert "is damaged" in result.err


def test_resuming_under_another_activation_is_refused(hvdsl: Hvdsl, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hv"
    other.write_text(TINY.replace("conv(3x3, width) -> tap -> avg_pool", "conv(3x3, width) -> gelu -> tap -> avg_pool"))
    result = hvdsl("train", other, "--resume", "--out", trained, "--steps", "4")
    assert result.code == 1
    assert "is not the model" in result.err


def test_specs_shows_shipped_ones_only(hvdsl: Hvdsl, tiny: Path) -> None:
    assert hvdsl("specs", "show", tiny).code == 1


def test_a_folder_is_no_spec(hvdsl: Hvdsl, tmp_path: Path) -> None:
    result = hvdsl("info", tmp_path)
    assert result.code == 1
    assert "found: a folder" in result.err


def test_convert_to_an_unknown_form_is_a_usage_error(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    assert hvdsl("convert", tiny, "-o", tmp_path / "x.txt").code == 2


@pytest.mark.parametrize("arguments", [["fmt", "spec.hv"], ["train", "spec.hv", "--out", "run", "--device", "cpu"]])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, arguments: list[str]) -> None:
    spec = tmp_path / "spec.hv"
    spec.write_text(TINY.replace("  ", " "))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    before = spec.read_text()
    done = subprocess.run(
        [sys.executable, "-B", "-m", "hvdsl", *arguments],
        preexec_fn=limit, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert spec.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["spec.hv"]


def test_a_file_is_replaced_with_its_mode_and_through_its_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o600)
    link.symlink_to(target)
    write_output(link, "after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o600


def test_training_collects_garbage(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvdsl.runtime.training.trainer import Trainer

    seen: list[bool] = []
    monkeypatch.setattr(Trainer, "fit", lambda self: seen.append(gc.isenabled()) or sys.exit(0))
    assert main(["train", str(tiny), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert seen == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    command = ["train", str(tiny), "--out", str(run), "--steps", "1_000_000", "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hvdsl", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    limit = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file() and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "--resume" in out
    assert err == ""
    assert any((run / "checkpoints").iterdir())


@pytest.mark.parametrize("arguments", [["info", "vdvae_digits"], ["compile", "vdvae_digits"]])
def test_a_reader_that_goes_away_is_no_failure(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "hvdsl", *arguments], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chek", "x"), "there is no command `chek`; did you mean `check`? `hvdsl --help` lists them"),
        (("train", "--outt", "x"), "unrecognized arguments: --outt; did you mean `--out`? `hvdsl train --help` shows "),
        (("doctor", "x"), "unrecognized arguments: x; `hvdsl doctor --help` shows what there is"),
        (("eval",), "the following arguments are required: RUN; `hvdsl eval --help` shows what there is"),
        (("sample", "x", "-n", "0"), "argument -n/--number: expected a whole number of at least 1, found `0`; "),
        (("sample", "x", "-o", ""), "argument -o/--output: expected a file or folder, found nothing; "),
        (("train", "vdvae_digits", "--out", ""), "argument --out: expected a file or folder, found nothing; "),
        (
            ("compile", "vdvae_digits", "-o", "spec.hv"),
            "a module cannot be written as `spec.hv`: give a file ",
        ),
        (("report", "x", "-o", "x.hv"), "a report cannot be written as `x.hv`: give a file that ends in .html"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(hvdsl: Hvdsl, arguments: tuple[str, ...], sentence: str) -> None:
    result = hvdsl(*arguments)
    assert result.code == 2
    assert sentence in result.err and result.err.count("\n") == 1
    assert result.err.startswith("hvdsl")


@pytest.mark.parametrize("command", ["eval", "report", "verify"])
def test_a_spec_is_no_run_and_a_run_no_spec(hvdsl: Hvdsl, tiny: Path, trained: Path, command: str) -> None:
    for spec in (tiny, "vdvae_digits"):
        result = hvdsl(command, spec)
        assert result.code == 1
        way = f"make one with `hvdsl train {spec} --out RUN`"
        assert result.err == f"hvdsl: {spec} is a spec, and no run of one: {way}\n"
    assert f"did you mean `{trained}/resolved.hv`?" in hvdsl("info", trained).err


def test_no_name_steers_the_terminal(hvdsl: Hvdsl) -> None:
    assert hvdsl("eval", "\x1b[31mred").err == "hvdsl: there is no run folder ␛[31mred\n"
