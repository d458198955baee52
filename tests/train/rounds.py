"""What two processes do in test_ends.py: join, train a step, leave, again and again.

python -m tests.train.rounds RANK PORT...: one round for each port of a store that the test keeps.
"""

import faulthandler
import os
import sys

import torch

from interp.model.config import ModelConfig
from interp.model.distributed import processes
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig
from interp.train.parallel import distributed

LONGEST = 20  # seconds of a round before it says where it stands and ends


def one_round(fails):
    with processes("cpu") as world:
        cfg = ModelConfig(n_layers=1, d_model=8, n_heads=2, n_ctx=4, d_vocab=11)
        model = HookedSymmetryBrokenTransformer(cfg)
        forward = distributed(model, TrainConfig(), world)
        for step in range(3):
            model.draw_biases(step)
            forward(torch.arange(8).view(2, 4), return_type="loss").backward()
        if fails:
            raise ArithmeticError


def main(rank, ports):
    torch.set_num_threads(1)
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    kept = []
    for number, port in enumerate(ports):
        os.environ["MASTER_PORT"] = port
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            one_round(fails=number % 2 == 1)
        except ArithmeticError as error:
            kept.append(error)  # and with it the frame, in which the distributed model stands
        faulthandler.cancel_dump_traceback_later()
        print("round", number, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
