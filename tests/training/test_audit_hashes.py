"""The audit's hashes: equal where the arms of a comparison must be equal, different wherever anything differs."""

import hashlib
from typing import Any

import pytest
import torch
from msgspec import structs
from support import Tiny
from torch import Tensor, nn

from bnexp.config import Config, from_mapping
from bnexp.config import choices as names
from bnexp.data import Dataset, Split
from bnexp.models import build, init
from bnexp.norms import NORMS
from bnexp.storage.facts import AuditFacts
from bnexp.training.batches import Batches, derive
from bnexp.training.stack import AUDIT_EPOCHS, Stack

CPU = torch.device("cpu")
SHAPES = [(5,), (2, 9), (2, 8, 6), (1, 4, 5, 4)]


def config(shape: tuple[int, ...] = (2, 8, 6), seed: int = 0, **changes: Any) -> Config:
    model = {"name": "mlp", "widths": [8, 6]} if len(shape) == 1 else {"widths": [4, 6]}
    return from_mapping({"model": model, "train": {"batch_size": 8, "steps": 20}, "seed": seed}).replace(**changes)


def audit(data: Dataset, *configs: Config, dtype: torch.dtype = torch.float32) -> list[AuditFacts]:
    return Stack(configs, data, CPU, dtype).audit()


def sha(parts: list[Tensor], head: bytes = b"") -> str:
    """The obvious twin: all bytes, one after the other."""
    return hashlib.sha256(head + b"".join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest()[:16]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("placement", names.PLACEMENTS)
def test_the_arms_of_a_seed_have_equal_hashes(tiny: Tiny, shape: tuple[int, ...], placement: str) -> None:
    """In stacks of any width, at any place in them, in either precision."""
    data = tiny(shape)
    arms = [config(shape, **{"model.norm": norm, "model.placement": placement}) for norm in NORMS]
    own = [audit(data, arm)[0] for arm in arms]
    own += [audit(data, arm.replace(seed=7), arm.replace(seed=3), arm)[2] for arm in arms]
    own += [audit(data, arm, dtype=torch.float64)[0] for arm in arms]
    own += [audit(data, arm.replace(**{"optim.lr": 0.7, "optim.name": "adam"}))[0] for arm in arms]
    assert len({facts.initial_weights for facts in own}) == 1
    assert len({facts.batch_order for facts in own}) == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
def test_initial_weights_are_hashed_as_they_lie_in_a_plain_network(tiny: Tiny, shape: tuple[int, ...], norm: str) -> None:
    own = config(shape, seed=3, **{"model.norm": norm})
    network = build(own.model, shape, 3)
    init(network, own.model, [derive(3, "init")])
    weights = [m.weight.detach() for m in network.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]
    assert audit(tiny(shape), own.replace(seed=1), own)[1].initial_weights == sha(weights)


def test_hashes_differ_between_seeds_and_networks(tiny: Tiny) -> None:
    data = tiny((2, 8, 6))
    stack = audit(data, *[config(seed=seed) for seed in range(20)])
    for key in ("initial_weights", "batch_order"):
        assert len({getattr(facts, key) for facts in stack}) == 20
        assert all(len(getattr(facts, key)) == 16 and int(getattr(facts, key), 16) >= 0 for facts in stack)
    wider = audit(data, config(**{"model.widths": [4, 7]}))[0]
    assert wider.initial_weights != stack[0].initial_weights
    assert wider.batch_order == stack[0].batch_order


def test_the_order_is_that_of_the_batches() -> None:
    """Example i is the number i: what training sees says which images it drew."""
    i = torch.arange(53)
    split = Split(i.view(53, 1).float(), i)
    data = Dataset("numbered", tuple(map(str, range(53))), split, split, split, torch.zeros(1), torch.ones(1))
    batches = Batches(data, [config((1,), seed=seed) for seed in (4, 9)], torch.float32)
    seen = torch.cat([batches[step][0] for step in range(3 * batches.per_epoch)]).long()
    expected = [sha([seen[:, run]], head=b"8") for run in range(2)]
    assert batches.order_digests(3) == expected
    assert batches.order_digests(2) != expected


@pytest.mark.parametrize("augment", names.AUGMENTATIONS)
def test_hashing_the_order_leaves_the_batches_alone(tiny: Tiny, augment: str) -> None:
    data, own = tiny((2, 8, 6)), [config(seed=seed, **{"data.augment": augment}) for seed in (0, 1)]
    hashed, plain = Batches(data, own, torch.float32), Batches(data, own, torch.float32)
    state = torch.get_rng_state()
    digests = hashed.order_digests(4)
    for step in range(2 * plain.per_epoch):
        assert torch.equal(hashed[step][0], plain[step][0])
        if step % 3 == 0:
            assert hashed.order_digests(4) == digests  # in the midst of an epoch too
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_hash_depends_on_batch_size_and_augmentation(tiny: Tiny) -> None:
    """24 and 48 of 48 images use the same order in other batches."""
    data = tiny((2, 8, 6), train=48)
    changes = [{"train.batch_size": size} for size in (8, 12, 16, 24, 48)] + [{"data.augment": "crop_flip"}]
    orders = [audit(data, config(**{"train.epochs": 2, "train.steps": None, **change}))[0].batch_order for change in changes]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize(
    ("budget", "epochs"), [({"steps": 1}, 1), ({"steps": 6}, 1), ({"steps": 7}, 2), ({"epochs": 3}, 3), ({"epochs": 500}, AUDIT_EPOCHS)]
)
def test_the_epochs_of_the_order_hash_are_those_of_the_budget(tiny: Tiny, budget: dict[str, int], epochs: int) -> None:
    data = tiny((2, 8, 6), train=50)  # 6 batches of 8
    own = config(**{f"train.{key}": value for key, value in {"steps": None, "epochs": None, **budget}.items()})
    facts = audit(data, own)[0]
    assert facts.batch_order_epochs == epochs
    assert facts.batch_order == Batches(data, [own], torch.float32).order_digests(epochs)[0]


@pytest.mark.parametrize(
    ("changes", "counts"),
    [  # 2 channels in, widths 4 and 6, 3 classes
        ({}, (9 * (2 * 4 + 4 * 4 + 4 * 6 + 6 * 6) + 6 * 3, 3, 2 * (4 + 4 + 6 + 6))),
        ({"model.norm": "none"}, (9 * (2 * 4 + 4 * 4 + 4 * 6 + 6 * 6) + 6 * 3, 4 + 4 + 6 + 6 + 3, 0)),
        ({"model.bn_affine": False}, (9 * (2 * 4 + 4 * 4 + 4 * 6 + 6 * 6) + 6 * 3, 3, 0)),
        ({"model.placement": "norm-conv-relu"}, (9 * (2 * 4 + 4 * 4 + 4 * 6 + 6 * 6) + 6 * 3, 4 + 4 + 6 + 6 + 3, 2 * (2 + 4 + 4 + 6))),
        ({"model.name": "mlp"}, (2 * 8 * 6 * 4 + 4 * 6 + 6 * 3, 3, 2 * (4 + 6))),
    ],
)
def test_parameters_by_hand(tiny: Tiny, changes: dict[str, Any], counts: tuple[int, int, int]) -> None:
    own = config(**changes)
    stack = Stack([own, own.replace(seed=1)], tiny((2, 8, 6)), CPU)
    for facts in stack.audit():
        assert structs.asdict(facts.parameters) == dict(zip(("weights", "biases", "norm"), counts, strict=True))
        assert sum(counts) == sum(param.numel() for param in stack.network.parameters()) // 2
