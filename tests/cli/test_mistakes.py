"""What people type first: each message has the right spelling. A line is a command, then what its message says to type."""

import pytest
from support import bn

MISTAKES = {
    "train --lr 0.1": "Write: optim.lr=0.1",
    "train --lr=0.1": "Write: optim.lr=0.1",
    "train -lr 0.1": "Write: optim.lr=0.1",
    "train --optim.lr 0.1": "Write: optim.lr=0.1",
    "train --batch-size 64": "Write: train.batch_size=64",
    "train --epochs 5": "Write: train.epochs=5",
    "train --seed 3": "Write: seed=3",
    "train --data mnist": "Write: data=mnist",
    "train --dataset mnist": "Write: data=mnist",
    "train --metrics full": "Write: metrics=full",
    "train --norm none": "Write: model.norm=none",
    "train --weight-decay 0.1": "Write: optim.weight_decay=0.1",
    "train --gpu": "Write: device=cuda",
    "train --no-bn": "Write: model.norm=none, or bnexp compare --no-bn",
    "train --bn": "Write: model.norm=batch",
    "train --workers 2": "It is an option of `bnexp sweep` or `bnexp compare`.",
    "train --sed 3": "--seeds",
    "train mnist": "write data=mnist.",
    "train none": "write model.norm=none.",
    "train adam": "write optim=adam.",
    "train optim.lr:0.1": "write optim.lr=0.1.",
    "train optim.lr = 0.1": "write optim.lr=0.1.",
    "train lr=0.1": "'optim.lr=0.1'",
    "train batch_size=64": "'train.batch_size=64'",
    "train bn=false": "'model.norm=none'",
    "train model.bn=false": "'model.norm=none'",
    "train optim.optimizer=adam": "'optim=adam'",
    "train model.norm=BatchNorm2d": "'batch'",
    "train data=CIFAR10": "'cifar10'",
    "train data.name=mnist": "write data=mnist.",
    "train metrics=all": "'full'",
    "train metrics=none": "'off'",
    "train optimizer=adam": "'optim=adam'",
    "train optim=AdamW": "'adamw'",
    "train model.norm=null": "'none'",
    "train precision=16": "'bf16'",
    "train device=gpu": "'cuda'",
    "train seeds=3": "the option --seeds 3",
    "sweep batch_size": "'batch-size'",
    "sweep bs": "'batch-size'",
    "sweep learning_rate": "'lr'",
    "sweep lr 0.1 0.3": "Write: --values 0.1,0.3",
    "sweep lr --values 0.1 0.3": "Write: --values 0.1,0.3",
    "sweep norm batch none": "Write: --values batch,none",
    "sweep lr --lrs 0.1,0.3": "Write: --values 0.1,0.3",
    "sweep batch-size --batch-sizes 4,32": "Write: --values 4,32",
    "compare batch none": "Write: bnexp compare --no-bn",
    "compare noisy none": "Write: bnexp compare model.norm=noisy --no-bn",
    "compare --no-bn --lrs 0.1 0.3": "Write: --lrs 0.1,0.3",
    "compare --without-bn": "Write: --no-bn",
    "compare --values 0.1,1": "Write: --lrs 0.1,1",
    "compare": "--no-bn",
    "ls": "Write: bnexp runs",
    "show": "Write: bnexp runs show RUN",
    "help": "Write: bnexp --help",
    "version": "Write: bnexp --version",
    "demo": "Write: bnexp compare --no-bn",
    "run": "Write: bnexp train",
    "test": "Write: bnexp evaluate RUN",
    "plot": "Write: bnexp report RUN",
    "tb": "Write: bnexp tensorboard",
    "trian": "'train'",
    "mnist": "Write: bnexp train data=mnist",
    "optim.lr=0.1": "Write: bnexp train optim.lr=0.1",
    "--lr 0.1": "Write: bnexp train optim.lr=0.1",
    "--quiet train": "Options follow the command, as in `bnexp train --quiet`.",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_with_the_right_spelling(line: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    result = bn(*line.split(), code=2)
    assert MISTAKES[line] in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) < 10
