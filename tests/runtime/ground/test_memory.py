"""Too little memory, told as that."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hvdsl
from hvdsl.runtime.ground.memory import out_of_memory
from hvdsl.workflows.calls import no_global_effect


def test_what_was_asked_for_is_said() -> None:
    cuda = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of …")
    assert str(out_of_memory(cuda)) == (
        "out of memory on the accelerator: 2.50 GiB more were asked for; take a smaller batch"
    )
    with pytest.raises(RuntimeError) as torch_failure:
        torch.empty(1 << 60)
    assert (
        str(out_of_memory(torch_failure.value, "x"))
        == "out of memory of the machine: 4.295e+09 GiB more were asked for; x"
    )
    with pytest.raises(MemoryError) as numpy_failure:
        np.ones(1 << 50)
    assert "8.00 PiB" in str(numpy_failure.value)
    assert str(out_of_memory(numpy_failure.value)).startswith("out of memory of the machine")


@pytest.mark.parametrize("other", [RuntimeError("shapes do not match"), ValueError("out of memory"), OSError(2, "no")])
def test_other_failures_are_not_taken_for_it(other: Exception) -> None:
    assert out_of_memory(other) is None


def test_a_call_of_the_library_fails_with_a_sentence_of_the_one_tree() -> None:
    sentence = r"out of memory of the machine: .* were asked for; take a smaller `batch`"
    with pytest.raises(hvdsl.Error, match=sentence), no_global_effect():
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shapes"), no_global_effect():
        raise RuntimeError("shapes do not match")
