"""A body in eval mode, whatever happens in it."""

from __future__ import annotations

import pytest
from torch import nn

from eqprop_lab.modules import evaluated


def test_every_module_gets_back_the_mode_it_had() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    with pytest.raises(ZeroDivisionError), evaluated(model):
        assert not any(module.training for module in model.modules())
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == [True, True, False]


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got int"):
        with evaluated(3):  # type: ignore[arg-type]
            pass
