"""Who knows the options of one command can type those of another: each spelling asks for the same runs."""

import json
from pathlib import Path

import pytest
from support import bn

PLANNED = {
    "sweep lr --values 0.1,0.3": ["sweep lr --lrs 0.1,0.3", "sweep lr optim.lr=0.1,0.3"],
    "sweep batch-size --values 4,32 optim.lr=0.1": ["sweep batch-size --batch-sizes 4,32 --lrs 0.1"],
    "sweep norm --values batch,none optim.lr=0.1,0.3": ["sweep norm --values batch,none --lrs 0.1,0.3"],
    "sweep grid model.norm=none train.batch_size=4,8": ["sweep grid model.norm=none --batch-sizes 4,8"],
    "compare --no-bn --lrs 0.1,0.3": ["compare --no-bn --values 0.1,0.3"],
}


@pytest.mark.parametrize(("line", "same"), [(line, same) for line, others in PLANNED.items() for same in others])
def test_two_spellings_plan_the_same_runs(line: str, same: str, tmp_path: Path) -> None:
    def planned(words: str) -> object:
        return json.loads(bn(*words.split(), "--seeds", "2", "--dry-run", "--json", "--workers", "1", "--runs-dir", str(tmp_path)).stdout)

    assert planned(line) == planned(same)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sweep lr --values 0.1 --lrs 0.3", "--values and --lrs both say which values to sweep"),
        ("sweep lr --lrs 0.1 optim.lr=0.3", "--lrs and optim.lr=... both say which values to sweep"),
        ("sweep norm --batch-sizes 4 train.batch_size=8", "--batch-sizes and train.batch_size=... both say"),
        ("sweep batch-size --batch-sizes=", "--batch-sizes is empty"),
        ("sweep lr --lrs 0.1,,1", "--lrs 0.1,,1 has an empty value"),
        ("sweep lr --lrs x", "optim.lr=x is not a number"),
    ],
)
def test_what_is_said_twice_or_not_at_all(line: str, said: str) -> None:
    assert said in " ".join(bn(*line.split(), code=2).stderr.split())
