"""The difference from the 3×3 mean, and the losses built on it, against plain formulas: values and gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ripu_lightning.losses import functional as L
from ripu_lightning.losses.deviation import deviation


def plain_means(values: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(values, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)


def make_values(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 4), (9, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradient_equal_pooling(size: tuple[int, int], layout: torch.memory_format) -> None:
    values = make_values(2, 3, *size).contiguous(memory_format=layout).requires_grad_()
    weights = make_values(3, 2, *size).transpose(0, 1)
    found, expected = deviation(values), values - plain_means(values)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad((found * weights).sum(), values)
    (expected,) = torch.autograd.grad((expected * weights).sum(), values)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-14)


def test_first_and_second_derivatives() -> None:
    values = make_values(1, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(deviation, values)
    assert torch.autograd.gradgradcheck(lambda x: deviation(x).pow(3), values)


def test_the_input_is_left_alone() -> None:
    values = make_values(1, 2, 3, 4)
    before = values.clone()
    deviation(values)
    assert torch.equal(values, before)


def plain_consistency(logits: Tensor, labels: Tensor, norm: str, boundary: str) -> Tensor:
    p = logits.softmax(dim=1)
    m = plain_means(p)
    distance = (p - m).abs().sum(dim=1) if norm == "l1" else (p * (p / (m + 1e-6) + 1e-6).log()).sum(dim=1)
    return distance[L.boundary_mask(labels, boundary)].mean()


def plain_negative(logits: Tensor, threshold: float) -> Tensor:
    p = logits.softmax(dim=1)
    return -(1 - p[p < threshold] + 1e-6).log().mean()


Loss = Callable[[Tensor, Tensor], Tensor]
PAIRS: dict[str, tuple[Loss, Loss]] = {
    f"{norm}_{boundary}": (
        lambda x, y, n=norm, b=boundary: L.local_consistency(x, y, n, b),
        lambda x, y, n=norm, b=boundary: plain_consistency(x, y, n, b),
    )
    for norm in ("l1", "kl")
    for boundary in ("clean", "official", "everywhere")
}
PAIRS["negative"] = (lambda x, y: L.negative_learning(x, 0.1), lambda x, y: plain_negative(x, 0.1))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_losses_and_their_gradients_equal_plain_formulas(name: str, dtype: torch.dtype, tolerance: float) -> None:
    quick, plain = PAIRS[name]
    labels = torch.randint(4, (2, 11, 13), generator=torch.Generator().manual_seed(1))
    labels[:, :2, 3:5] = 255
    logits = 2 * make_values(2, 4, 11, 13)
    found, expected = logits.to(dtype, copy=True).requires_grad_(), logits.clone().requires_grad_()
    value, truth = quick(found, labels), plain(expected, labels)
    value.backward()
    truth.backward()
    assert truth.item() > 1e-3
    assert value.item() == pytest.approx(truth.item(), abs=tolerance)
    torch.testing.assert_close(found.grad.double(), expected.grad, rtol=0, atol=tolerance)
