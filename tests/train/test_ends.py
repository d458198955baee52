"""Processes that train together come to an end: the group is left before the distributed model falls with its frame."""

import os
import sys

import pytest
from torch.distributed import TCPStore

from tests.processes import run_together

ROUNDS = int(os.environ.get("INTERP_TEST_ROUNDS", "10"))


@pytest.mark.slow
def test_two_processes_leave_their_group_again_and_again_also_after_an_error_whose_traceback_is_kept():
    stores = [TCPStore("localhost", 0, is_master=True, wait_for_workers=False) for _ in range(ROUNDS)]
    ports = [str(store.port) for store in stores]
    commands = [[sys.executable, "-W", "ignore", "-m", "tests.train.rounds", str(rank), *ports] for rank in range(2)]
    statuses, written = run_together(commands, limit=60 + 2 * ROUNDS)
    assert statuses == [0, 0], "\n".join(written)
    assert [text.count("round") for text in written] == [ROUNDS] * 2
