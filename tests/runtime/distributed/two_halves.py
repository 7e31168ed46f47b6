"""One of two gloo processes that train on the halves of a batch: `two_halves.py RANK PORT FILE`."""

import sys

import torch
import torch.distributed as dist

from hvdsl.runtime.training.step.processes import synchronise_batch_norm
from tests.runtime.distributed.normed import data, gradients, made

if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, store, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = made()
    assert synchronise_batch_norm(model) == 2
    half = data()[rank * 3 : rank * 3 + 3]
    found = gradients(model, half)
    for gradient in found.values():
        dist.all_reduce(gradient)
    if rank == 0:
        torch.save(found | {f"buffer {name}": b for name, b in model.named_buffers()}, file)
    dist.destroy_process_group()
