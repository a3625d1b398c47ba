"""evaluating(): eval mode and no gradients inside, every submodule as it was afterwards."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ripu_lightning.training.eval_mode import evaluating


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(block, nn.BatchNorm2d(4), nn.ReLU())


def modes(module: nn.Module) -> list[bool]:
    return [child.training for child in module.modules()]


@given(st.lists(st.booleans(), min_size=7, max_size=7), st.booleans())
def test_modes_come_back_exactly(before: list[bool], fails: bool) -> None:
    module = network()
    children = list(module.modules())
    assert len(children) == len(before)
    for child, training in zip(children, before, strict=True):
        child.training = training
    try:
        with evaluating(module):
            assert modes(module) == [False] * len(children)
            module.train()  # what happens inside does not matter
            if fails:
                raise KeyError("scoring failed")
    except KeyError:
        assert fails
    assert modes(module) == before


def test_frozen_batchnorm_stays_frozen_and_untouched() -> None:
    module = network().train()
    frozen = module[1]
    frozen.eval()
    statistics = [buffer.clone() for buffer in module.buffers()]
    images = torch.randn(2, 3, 5, 5)
    with evaluating(module):
        first, second = module(images), module(images)
    assert torch.equal(first, second)  # no dropout
    assert all(torch.equal(now, then) for now, then in zip(module.buffers(), statistics, strict=True))
    assert module.training
    assert module[0].training
    assert not frozen.training


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_off_inside_and_as_before_outside(enabled: bool) -> None:
    module = network()
    with torch.set_grad_enabled(enabled):
        with evaluating(module):
            assert not torch.is_grad_enabled()
            assert not module(torch.randn(2, 3, 5, 5)).requires_grad
        assert torch.is_grad_enabled() is enabled
        with pytest.raises(KeyError), evaluating(module):
            raise KeyError
        assert torch.is_grad_enabled() is enabled
    assert all(parameter.requires_grad for parameter in module.parameters())
