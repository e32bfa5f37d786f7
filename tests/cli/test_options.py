"""What the options that many commands share stand for."""

from __future__ import annotations

import pytest

from vocable.cli import options
from vocable.cli.options import Running


@pytest.mark.parametrize(
    ("cores", "devices", "workers"), [(8, "cuda:0", 2), (8, "cuda:0,cuda:1", 4), (1, "cuda:0", 1), (3, "cpu", 3)]
)
def test_a_gpu_has_two_workers_so_that_one_decodes_while_the_other_computes(
    monkeypatch: pytest.MonkeyPatch, cores: int, devices: str, workers: int
) -> None:
    monkeypatch.setattr(options, "available_cores", lambda: cores)
    monkeypatch.setattr(options, "check_device", str)
    assert Running(devices=devices).work().workers == workers
    assert Running(devices=devices, workers=5).work().workers == 5
