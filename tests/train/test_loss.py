"""The loss in parts: the same values and gradients, without all logits at once."""

import pytest
import torch
import torch.nn.functional as F

from pcb.train import loss
from pcb.train.loss import cross_entropies, token_losses

TOKENS, WIDTH, CODES = 50, 4, 32


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, requires_grad=True)
    weight = torch.randn(CODES, WIDTH, requires_grad=True)
    bias = torch.randn(CODES, requires_grad=True)
    return hidden, weight, bias, torch.randint(CODES, (TOKENS,))


def losses_and_gradients(inputs):
    losses = token_losses(*inputs, cross_entropies)
    weights = torch.linspace(-1, 1, TOKENS)
    return losses, torch.autograd.grad((losses * weights).sum(), inputs[:3])


@pytest.mark.parametrize("logits", [1, 7 * CODES, 25 * CODES])
def test_parts_add_up_to_the_whole(inputs, logits, monkeypatch):
    whole = losses_and_gradients(inputs)
    monkeypatch.setattr(loss, "PART_LOGITS", {"cpu": logits})
    torch.testing.assert_close(losses_and_gradients(inputs), whole, atol=1e-5, rtol=1e-5)


def test_few_tokens_go_through_in_one_part_to_the_bit(inputs):
    hidden, weight, bias, codes = inputs
    logits = F.linear(hidden, weight, bias)
    expected = F.cross_entropy(logits, codes, reduction="none")
    assert torch.equal(losses_and_gradients(inputs)[0], expected)


def test_no_tensor_of_all_logits_is_kept_or_made(inputs, monkeypatch):
    monkeypatch.setattr(loss, "PART_LOGITS", {"cpu": 10 * CODES})
    with Largest() as largest:
        losses_and_gradients(inputs)
    assert largest.numel == 10 * CODES
    monkeypatch.setattr(loss, "PART_LOGITS", {"cpu": TOKENS * CODES})
    with Largest() as largest:
        losses_and_gradients(inputs)
    assert largest.numel == TOKENS * CODES, "the measure sees them where they are made"


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Watches every operation, forwards and backwards, for the largest tensor that comes out."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out
