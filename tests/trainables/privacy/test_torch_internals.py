"""Operations on lists of tensors equal the same methods of each tensor, and a torch without one is refused."""

import pytest
import torch

from fairsweep.trainables.privacy.torch_internals import foreach

ALONE = ("sqrt", "zero_")
WITH_NUMBER = ("mul_", "div_", "add_")
WITH_LIST = ("add", "add_", "copy_")


def lists(count):
    generator = torch.Generator().manual_seed(3)
    return [[torch.rand(shape, generator=generator) + 0.1 for shape in ((3,), (2, 4), ())] for _ in range(count)]


def check(operation, *arguments, **options):
    """Apply an operation to a list and to each of its tensors; options and further arguments are the same for both."""
    (tensors, *others) = [[t.clone() for t in a] if isinstance(a, list) else a for a in arguments]
    expected = [
        getattr(tensor, operation)(*(other[i] if isinstance(other, list) else other for other in others), **options)
        for i, tensor in enumerate(tensors)
    ]
    given = [t.clone() for t in arguments[0]]
    result = foreach(operation, given, *arguments[1:], **options)
    for one, other in zip(given if operation.endswith("_") else result, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("operation", ALONE)
def test_an_operation_on_one_list(operation):
    check(operation, *lists(1))


@pytest.mark.parametrize("operation", WITH_NUMBER)
def test_an_operation_with_a_number(operation):
    check(operation, *lists(1), 0.7)


@pytest.mark.parametrize("operation", WITH_LIST)
def test_an_operation_on_two_lists(operation):
    check(operation, *lists(2), **({"alpha": -0.3} if operation.startswith("add") else {}))


def test_operations_of_adam():
    check("lerp_", *lists(2), 0.1)
    check("addcmul_", *lists(3), value=0.01)
    check("addcdiv_", *lists(3), value=-0.3)


def test_a_version_of_torch_without_the_operation_is_refused(monkeypatch):
    monkeypatch.delattr(torch, "_foreach_lerp_")
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(NotImplementedError, match=r"torch\._foreach_lerp_, which torch 9\.9\.9 .* install torch=="):
        foreach("lerp_", *lists(2), 0.1)
