"""fmt, convert, specs, explain, compile, info: what a person reads and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvdsl.specs import names, spec_path

from .conftest import TINY, Hvdsl

UNTIDY = TINY.replace("let width = 8", "let   width=8   # channels")


def test_fmt_rewrites_in_place_and_keeps_comments(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "a.hv"
    path.write_text(UNTIDY)
    assert hvdsl("fmt", path).code == 0
    text = path.read_text()
    assert "let width = 8" in text
    assert "# channels" in text
    assert hvdsl("fmt", "--check", path).code == 0


def test_fmt_check_exits_with_3_and_changes_nothing(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "a.hv"
    path.write_text(UNTIDY)
    assert hvdsl("fmt", "--check", path).code == 3
    assert path.read_text() == UNTIDY


def test_the_shipped_specs_are_in_the_canonical_form(hvdsl: Hvdsl) -> None:
    folder = spec_path("vdvae_digits").parent
    files = [*folder.glob("*.hv"), *folder.glob("lib/*.hv")]
    assert len(files) > len(names())
    result = hvdsl("fmt", "--check", *files)
    assert result.err == ""
    assert result.code == 0


def test_convert_to_yaml_and_back_gives_the_same_model(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    yaml, text = tmp_path / "tiny.yaml", tmp_path / "again.hv"
    assert hvdsl("convert", tiny, "-o", yaml).code == 0
    assert hvdsl("convert", yaml, "-o", text).code == 0
    numbers = [json.loads(hvdsl("check", path, "--json").out)["parameters"] for path in (tiny, yaml, text)]
    assert len(set(numbers)) == 1


def test_specs_lists_shows_and_copies(hvdsl: Hvdsl, tmp_path: Path) -> None:
    assert "vdvae_photos" in hvdsl("specs", "list").out
    assert hvdsl("specs", "show", "vdvae_photos").out.startswith("hv 1")
    assert hvdsl("specs", "copy", "vdvae_photos", tmp_path).code == 0
    again = hvdsl("specs", "copy", "vdvae_photos", tmp_path)
    assert again.code == 1
    assert "exists already" in again.err


def test_explain_tells_the_story_of_a_code(hvdsl: Hvdsl) -> None:
    codes = [line.split()[0] for line in hvdsl("explain").out.splitlines() if line.startswith("HV")]
    assert codes == sorted(codes)
    story = hvdsl("explain", codes[0].lower())
    assert story.code == 0
    assert codes[0] in story.out
    assert hvdsl("explain", "HV9999").code == 1


@pytest.mark.parametrize("name", ["spectral", "spectral_sum", "weighted_spectral_nats_per_dim"])
def test_explain_tells_the_story_of_a_term_by_its_name_and_by_what_it_is_logged_as(hvdsl: Hvdsl, name: str) -> None:
    assert "\nspectral " in hvdsl("explain").out
    story = hvdsl("explain", name)
    assert story.code == 0
    assert "largest singular value" in " ".join(story.out.split())
    assert "weighted_spectral_<unit>: w_s Σ σ (the objective's)" in story.out


def test_a_misspelt_term_has_a_suggestion(hvdsl: Hvdsl) -> None:
    assert "did you mean spectral?" in hvdsl("explain", "spectrl").err


def test_compile_writes_a_module_that_python_takes(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "model.py"
    assert hvdsl("compile", tiny, "-o", path).code == 0
    source = path.read_text()
    compile(source, str(path), "exec")
    assert "class Tiny(nn.Module)" in source
    assert hvdsl("compile", tiny).out == source


def test_compile_with_steps_writes_a_second_file_or_one_that_stands_alone(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "photos.py"
    assert hvdsl("compile", "vqvae2_photos", "--steps", "-o", path).code == 0
    assert "class ZTopPrior(nn.Module):" in path.read_text() and "Steps" not in path.read_text()
    assert "class ZTopPriorSteps:" in (tmp_path / "photos_steps.py").read_text()
    alone = hvdsl("compile", "vqvae2_photos", "--steps", "--standalone").out
    assert "class ZTopPriorSteps:" in alone and "class ZTopPrior(nn.Module):" in alone
    assert hvdsl("compile", "vqvae2_photos", "--steps").code == 2


def test_compile_with_steps_of_a_model_without_priors_is_refused(hvdsl: Hvdsl, tiny: Path, tmp_path: Path) -> None:
    done = hvdsl("compile", tiny, "--steps", "-o", tmp_path / "model.py")
    assert done.code == 2 and "no `prior`" in done.err


def test_info_has_every_promised_number(hvdsl: Hvdsl, tiny: Path) -> None:
    promised = {
        "parameters",
        "macs",
        "activation_bytes",
        "latent_groups",
        "latent_dims",
        "resolutions",
        "receptive_field",
    }
    assert promised <= json.loads(hvdsl("info", tiny, "--json").out).keys()


def test_info_for_people_has_a_line_per_resolution(hvdsl: Hvdsl, tiny: Path) -> None:
    lines = hvdsl("info", tiny).out.splitlines()
    assert any(line.split()[:2] == ["8x8", "4x8x8"] for line in lines)
    assert any(line.split()[:2] == ["4x4", "4x4x4"] for line in lines)


@pytest.mark.parametrize("suffix", [".txt", ""])
def test_a_form_that_cannot_be_told_is_a_usage_error(hvdsl: Hvdsl, tiny: Path, tmp_path: Path, suffix: str) -> None:
    assert hvdsl("viz", "graph", tiny, "-o", tmp_path / f"graph{suffix}").code == 2


def test_compile_at_level_2_says_where_it_compiles(hvdsl: Hvdsl, tmp_path: Path) -> None:
    path = tmp_path / "a.hv"
    path.write_text(TINY)
    done = hvdsl("compile", "-O2", path)
    assert done.code == 0 and "that of -O1" in done.err
    assert done.out == hvdsl("compile", path).out
    assert hvdsl("compile", "-O2", "--standalone", path).code == 2
