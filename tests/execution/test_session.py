"""A session: one place where a config's data, device and threads are made ready, and refused."""

import pytest
import torch

from bnexp.base.errors import UsageError
from bnexp.config import Config
from bnexp.execution.session import Session, threads_restored
from bnexp.execution.terminal import Terminal
from bnexp.models import build
from bnexp.planning import plan

TINY = Config().replace(**{"model.widths": [4], "data.subset": 200, "device": "cpu"})


def test_data_are_used_again_where_they_are_the_same() -> None:
    terminal = Terminal(quiet=True)
    first = Session.open(TINY, terminal)
    other_model = Session.open(TINY.replace(**{"model.norm": "none"}), terminal, like=first)
    assert other_model.data is first.data
    other_data = Session.open(TINY.replace(**{"data.subset": 100}), terminal, like=first)
    assert len(other_data.data.train) < len(first.data.train)


def test_threads_are_those_of_the_config_and_given_back() -> None:
    before = torch.get_num_threads()
    with threads_restored():
        session = Session.open(TINY.replace(threads=2), Terminal(quiet=True))
        assert session.threads == torch.get_num_threads() == session.environment.threads == 2
    assert torch.get_num_threads() == before
    assert Session.open(TINY, Terminal(quiet=True)).threads == 1  # auto: a small step


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"train\.batch_size=5000"):
        Session.open(TINY.replace(**{"train.batch_size": 5000}), Terminal(quiet=True))
    session = Session.open(TINY, Terminal(quiet=True))
    session.check_memory()
    monkeypatch.setattr(plan, "available_memory", lambda: plan.least_bytes(TINY, session.data.header, 2))
    session.check_memory(2)
    with pytest.raises(UsageError, match="A stack of 3 runs"):
        session.check_memory(3)


def test_a_network_is_moved_to_the_layout_of_the_data() -> None:
    session = Session.open(TINY, Terminal(quiet=True))
    network = build(TINY.model, session.data.shape, len(session.data.classes))
    session.place(network)
    assert all(param.device == session.device for param in network.parameters())
