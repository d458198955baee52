"""Ratios of time and memory within one run, on one thread, beside the budgets: `make bench`.

python -m tests.bench [PART ...]    everything, or the parts named: analysis training optimizers startup page
"""

import sys

import torch

from tests.bench import analysis, optimizers, page, startup, training

PARTS = {"analysis": analysis, "training": training, "optimizers": optimizers, "startup": startup, "page": page}


def main(names):
    torch.set_num_threads(1)
    for name in names or PARTS:
        print(name)
        for row in PARTS[name].rows():
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
