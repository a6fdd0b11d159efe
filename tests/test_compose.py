"""Overrides and YAML files: what makes a config, and what is refused before Hydra sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bnexp.compose import builtin_configs, completions, compose, group_choices
from bnexp.config import DATASETS, MODELS, OPTIMIZERS, Config, keys
from bnexp.errors import UsageError


def write(folder: Path, **files: str) -> Path:
    """A --config-dir with the files, `data__mnist="..."` for data/mnist.yaml."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_nothing_said_is_the_default() -> None:
    assert compose() == Config()


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["optim.lr=0.3"], {"optim.lr": 0.3}),
        (["optim.lr=1"], {"optim.lr": 1.0}),
        (["optim.lr=1e-3", "seed=4"], {"optim.lr": 1e-3, "seed": 4}),
        (["+optim.lr=0.3"], {"optim.lr": 0.3}),
        (["++optim.lr=0.3"], {"optim.lr": 0.3}),
        (["optim.lr=0.3", "optim.lr=0.4"], {"optim.lr": 0.4}),
        (["model.widths=[8,4]"], {"model.widths": [8, 4]}),
        (["train.steps=50"], {"train.steps": 50, "train.epochs": None}),
        (["train.epochs=null", "train.steps=50"], {"train.steps": 50, "train.epochs": None}),
        (["model.bn_affine=false"], {"model.bn_affine": False}),
        (["train.eval_every=auto"], {}),
        (["data=mnist", "model.norm=none"], {"data.name": "mnist", "model.norm": "none"}),
        (["model=mlp"], {"model.name": "mlp", "model.widths": [100, 100, 100]}),
        (["model.widths=[7]", "model=mlp"], {"model.name": "mlp", "model.widths": [7]}),
        (["optim=adam"], {"optim.name": "adam", "optim.lr": 0.001}),
        (["optim=adamw", "optim.weight_decay=0"], {"optim.name": "adamw", "optim.lr": 0.001}),
        (["data=folder", "data.root=/some/where"], {"data.name": "folder", "data.root": "/some/where"}),
        (["data=npz", "data.root='my file, v1=x.npz'"], {"data.name": "npz", "data.root": "my file, v1=x.npz"}),
        (['name="a-b"'], {"name": "a-b"}),
        (["name=7"], {"name": "7"}),
    ],
)
def test_overrides(overrides: list[str], changes: dict[str, object]) -> None:
    assert compose(overrides) == Config().replace(**changes)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "There is no config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("+optim.lrr=1", "There is no config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("++optim.lrr=1", "There is no config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("lr=0.1", "There is no config key 'lr'. Did you mean 'optim.lr'?"),
        ("+new=1", "There is no config key 'new'"),
        ("train=1", "'train' is a group of keys"),
        ("train={batch_size: 3}", "'train' is a group of keys"),
        ("optim={lr: 0.3}", "names no optim config; choose adam, adamw or sgd"),
        ("data=mnits", "data=mnits names no data config; choose cifar10, cifar100, digits"),
        ("data=mnits", "Did you mean 'mnist'?"),
        ("model=resnet", "model=resnet names no model config; choose blocknet or mlp"),
        ("experiment=none", "experiment=none names no experiment config"),
        ("data=../data/mnist", "names no data config"),
        ("optim.lr", "'optim.lr' is not an override; write key=value"),
        ("", "'' is not an override"),
        ("=3", "There is no config key ''"),
        ("optim.lr=[1", "cannot be read as key=value"),
        ("name=a b=c", "cannot be read as key=value"),
        ("~optim.lr", "keys cannot be deleted"),
        ("~data", "keys cannot be deleted"),
        ("data@train=mnist", "packages (@) are not supported"),
        ("hydra.run.dir=/tmp/x", "Hydra's own settings are not for bnexp"),
        ("hydra.searchpath=[pkg://os]", "Hydra's own settings are not for bnexp"),
        ("+hydra.searchpath=[file:///tmp]", "Hydra's own settings are not for bnexp"),
        ("hydra/launcher=basic", "Hydra's own settings are not for bnexp"),
        ("_target_=os.system", "There is no config key '_target_'"),
        ("+model._target_=os.system", "There is no config key 'model._target_'"),
        ("name=${oc.env:HOME}", "is refused: interpolations"),
        ("data.root='${oc.env:HOME}'", "data.root=${oc.env:HOME} is refused: interpolations"),
        ("name=x${seed}", "is refused: interpolations"),
        ("optim.lr=${seed}", "is refused: interpolations"),
        ("seed=0,1,2", "names several values; this command takes one"),
        ("optim.lr=choice(0.1,0.2)", "names several values"),
        ("seed=range(1,4)", "names several values"),
        ("optim.lr=interval(0.1,0.2)", "names several values"),
        ("data=mnist,digits", "names several values"),
        ("data=glob(*)", "names several values"),
        ("optim.lr=abc", "optim.lr=abc is not a number"),
        ("optim.lr='0.3'", "optim.lr=0.3 is not a number"),
        ("optim.lr=nan", "optim.lr=nan is out of range"),
        ("optim.lr=", "optim.lr= is not a number"),
        ("model.widths=[]", "model.widths=[] is empty"),
        ("model.widths={a:1}", "model.widths={'a': 1} is not a list of whole numbers"),
        ("seed=" + "9" * 5000, "cannot be read as key=value"),  # Python reads whole numbers up to 4300 digits
    ],
)
def test_refused_overrides(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "+new" not in str(caught.value).replace(override, "")  # Hydra's own text recommends to append with a plus


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in ("folder", "npz")])
def test_every_data_set_composes(name: str) -> None:
    assert compose([f"data={name}"]).data.name == name


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_data_of_the_user_need_a_root(name: str) -> None:
    with pytest.raises(UsageError, match=f"data={name} needs data.root"):
        compose([f"data={name}"])
    assert compose([f"data={name}", "data.root=here"]).data.name == name


@pytest.mark.parametrize(("group", "names"), [("data", tuple(DATASETS)), ("model", MODELS), ("optim", OPTIMIZERS)])
def test_the_files_are_the_choices_of_the_config(group: str, names: tuple[str, ...]) -> None:
    assert group_choices(group) == sorted(names)
    for name in names:
        tree = yaml.safe_load((builtin_configs() / group / f"{name}.yaml").read_text())
        assert tree["name"] == name
        if group != "data":
            assert getattr(compose([f"{group}={name}"]), group).name == name


def test_every_experiment_composes() -> None:
    for name in group_choices("experiment"):
        compose([f"experiment={name}"])


def test_a_file_of_the_user_wins_over_ours_and_does_not_stay(tmp_path: Path) -> None:
    """Hydra keeps its plugins for the life of the process: the folder of one compose must not show in the next."""
    mine = write(tmp_path / "mine", data__mnist="name: mnist\nsubset: 700\n", optim__slow="name: sgd\nlr: 0.001\n")
    other = write(tmp_path / "other", data__mnist="name: mnist\nsubset: 300\n")
    assert compose(["data=mnist"]).data.subset is None
    assert compose(["data=mnist"], mine).data.subset == 700
    assert compose(["data=mnist"]).data.subset is None
    assert compose(["data=mnist"], other).data.subset == 300
    assert compose(["data=mnist"], str(mine)).data.subset == 700
    assert compose(["data=mnist", "data.subset=900"], mine).data.subset == 900
    assert compose(["optim=slow"], mine).optim.lr == 0.001
    for folder in (None, other):
        with pytest.raises(UsageError, match="optim=slow names no optim config"):
            compose(["optim=slow"], folder)
    assert compose(["data=digits"], mine) == Config()  # what is not there comes from ours


def test_a_failed_compose_leaves_no_folder_behind(tmp_path: Path) -> None:
    bad = write(tmp_path, data__mnist="name: mnist\n_target_: os.system\nsubset: 700\n")
    with pytest.raises(UsageError):
        compose(["data=mnist"], bad)
    assert compose(["data=mnist"]).data.subset is None


def test_experiment_files(tmp_path: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - override /data: mnist\nmodel:\n  norm: none\noptim:\n  lr: 0.5\nseed: 3\n"
    folder = write(tmp_path, experiment__mine=text)
    expected = Config().replace(**{"data.name": "mnist", "model.norm": "none", "optim.lr": 0.5, "seed": 3})
    assert compose(["experiment=mine"], folder) == expected
    assert compose(["experiment=mine", "optim.lr=0.25"], folder) == expected.replace(**{"optim.lr": 0.25})
    with pytest.raises(UsageError, match=r"experiment=min names no experiment config; choose mine\. Did you mean 'mine'\?"):
        compose(["experiment=min"], folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: digits\n_target_: os.system\n", "'data._target_' is refused"),
        ("name: digits\nroot: ${oc.env:HOME}\n", "data.root=${oc.env:HOME} is refused: interpolations"),
        ("name: digits\nroot: ${hydra:runtime.cwd}\n", "is refused: interpolations"),
        ("name: digits\nsubset: ${oc.decode:'500'}\n", "is refused: interpolations"),
        ("name: digits\nrooot: x\n", "There is no config key 'data.rooot'. Did you mean 'data.root'?"),
        ("name: digits\nroot:\n  _target_: os.system\n  _args_: [ls]\n", "'data.root._target_' is refused"),
        ("name: digits\nsubset: -5\n", "data.subset=-5 is out of range"),
        ("name: digits\nsubset: [1, 2]\n", "data.subset=[1,2] is not a whole number or null"),
        ("name: [digits\n", "The config cannot be composed"),
        ("- digits\n", "data should be a group of keys, and is ['digits']"),
        ("name: !!python/object/apply:os.system [ls]\n", "The config cannot be composed"),
        ("name: digits\nsubset: " + "9" * 5000, "The config cannot be composed"),
        ("# @package _global_\nhydra:\n  run:\n    dir: /tmp/x\n", "Hydra's own settings are not for bnexp"),
        ("# @package _global_\n{hydra: {searchpath: [pkg://os]}}\n", "Hydra's own settings are not for bnexp"),
        ("# @package hydra.run\ndir: /tmp/x\n", "Hydra's own settings are not for bnexp"),
        ("defaults:\n  - override /hydra/launcher: basic\nname: digits\n", "Hydra's own settings are not for bnexp"),
        ("defaults:\n  - nowhere\nname: digits\n", "The config cannot be composed"),
        ("# @package _global_\ndata: 3\n", "data should be a group of keys, and is 3"),
        ("# @package elsewhere\nname: digits\n", "There is no config key 'elsewhere'"),
        ("", None),
    ],
)
def test_a_file_of_the_user_is_checked_like_an_override(tmp_path: Path, text: str, message: str | None) -> None:
    folder = write(tmp_path, data__mine=text)
    if message is None:
        assert compose(["data=mine"], folder) == Config()
        return
    with pytest.raises(UsageError) as caught:
        compose(["data=mine"], folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other__x": ""}, "has no folder data/, model/, optim/ or experiment/ with group files"),
        ({"data__x": "", "train": "defaults: []\n"}, "holds train.yaml or hydra/"),
        ({"data__x": "", "hydra__launcher__x": ""}, "holds train.yaml or hydra/"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose([], write(tmp_path, **files))
    assert message in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, data__mine="name: digits")
    (tmp_path / "data" / "mine.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UsageError, match="cannot be composed"):
        compose(["data=mine"], tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        compose([], tmp_path / "nothing")


def test_completions() -> None:
    assert completions("optim.l") == ["optim.lr="]
    assert completions("data=mn") == ["data=mnist"]
    assert {f"{key}=" for key in keys()} <= set(completions(""))
    assert completions("zzz") == []
