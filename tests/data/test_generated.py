"""The generated sets are hard enough to mean something, and no harder."""

from dataclasses import replace

import pytest
import torch

from bnexp.config import Config, DataConfig
from bnexp.data import Dataset, Split, load
from bnexp.models import logits
from bnexp.training.stack import Stack, train_step

NAMES = ("waveforms", "volumes")


@pytest.fixture(scope="module", params=NAMES)
def data(request: pytest.FixtureRequest) -> Dataset:
    return load(DataConfig(name=request.param), torch.device("cpu"))


def accuracy_of_network(data: Dataset, epochs: int) -> float:
    """Test accuracy of the default network: three two-conv BN-ReLU blocks, SGD, learning rate 0.1, batch 32."""
    stack = Stack([Config().replace(**{"data.name": data.name, "train.epochs": epochs})], data, torch.device("cpu"))
    stack.network.train()
    while stack.step < stack.total:
        train_step(stack)
    stack.network.eval()
    with torch.no_grad():
        predicted = torch.cat([logits(stack.network, data.normalize(x))[0].argmax(1) for x in data.test.x.split(100)])
    return float((predicted == data.test.y).float().mean())


def test_a_linear_model_stays_under_60_percent(data: Dataset) -> None:
    from sklearn.linear_model import LogisticRegression

    x, x_test = (split.x.flatten(1).numpy() for split in (data.train, data.test))
    assert LogisticRegression(max_iter=2000).fit(x, data.train.y).score(x_test, data.test.y) < 0.6


@pytest.mark.slow
def test_the_default_network_passes_90_percent(data: Dataset) -> None:
    assert accuracy_of_network(data, epochs=10) > 0.9


@pytest.mark.slow
def test_permuted_labels_give_chance(data: Dataset) -> None:
    """Nothing but the labels' tie to the examples is learned. One permutation says little: a network that guesses by true class scores
    1/6 with a standard deviation of sqrt(6 * 1/6 * 5/6) / 6 = 0.15, so 5 are averaged and held to 3 of the mean's deviations."""
    scores = []
    for seed in range(5):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        scores.append(accuracy_of_network(replace(data, train=Split(data.train.x, data.train.y[order])), epochs=1))
    assert sum(scores) / 5 == pytest.approx(1 / 6, abs=0.2)


def test_classes_are_balanced_and_their_means_are_zero(data: Dataset) -> None:
    for split in (data.train, data.test):
        counts = split.y.bincount()
        assert counts.max() - counts.min() <= 2
    spread = data.train.x.std()
    for label in range(6):
        assert float(data.train.x[data.train.y == label].mean(0).abs().max()) < 0.35 * float(spread)
