"""Overrides and YAML files: what makes a config, and what is refused before Hydra sees it."""

import os
from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from bnexp.base.errors import UsageError, one_of
from bnexp.config import DATASETS, KEYS, MODELS, Config
from bnexp.config.choices import OPTIMIZERS
from bnexp.config.compose import completions, compose, expand
from bnexp.config.group_files import builtin_configs, group_choices
from bnexp.norms import NORMS


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
        ("name=a b=c", "name='a b=c' is not usable"),
        ("~optim.lr", "keys cannot be deleted"),
        ("~data", "keys cannot be deleted"),
        ("data@train=mnist", "packages (@) are not supported"),
        ("hydra.run.dir=/tmp/x", "Hydra's own settings are not for bnexp"),
        ("hydra.searchpath=[pkg://os]", "Hydra's own settings are not for bnexp"),
        ("_target_=os.system", "There is no config key '_target_'"),
        ("name=${oc.env:HOME}", "is refused: interpolations"),
        ("data.root='${oc.env:HOME}'", "data.root=${oc.env:HOME} is refused: interpolations"),
        ("seed=0,1,2", "names several values; this command takes one"),
        ("optim.lr=interval(0.1,0.2)", "names several values"),
        ("data=glob(*)", "names several values"),
        ("optim.lr=", "optim.lr= is not a number"),
        ("model.widths={a:1}", "model.widths={a: 1} is not a list of whole numbers"),
        ("data.name=mnist", "'data.name=mnist' is refused: write data=mnist."),
        ("model.name=mlp", "'model.name=mlp' is refused: write model=mlp."),  # it left out the widths of model=mlp
        ("++model.name=", "write model=NAME"),
        ("model.widths=" + "[" * 3000 + "]" * 3000, "cannot be read: its brackets are nested too deeply"),
        ("seed=" + "9" * 5000, "cannot be read as key=value"),  # Python reads whole numbers up to 4300 digits
    ],
)
def test_refused_overrides(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "+new" not in str(caught.value).replace(override, "")  # Hydra's own text recommends to append with a plus


LONG = "x" * 5000


@pytest.mark.parametrize(
    "override",
    [LONG, f"{LONG}=1", f"seed={LONG}", f"name={LONG}", f"name=a b={LONG}", f"data={LONG}", f"data@{LONG}=1", f"~{LONG}", f"hydra.{LONG}=1",
     f"name=${{{LONG}}}", f"data.name={LONG}", f"seed=int('{LONG}')", f"seed=1,{LONG}", "model.widths=" + "[" * 5000, f"name='{LONG}\n'"],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_long_override_is_cut_short_in_the_message(override: str) -> None:
    for use in (compose, expand):
        with pytest.raises(UsageError) as caught:
            use([override])
        assert len(str(caught.value)) < 320
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_data_of_the_user_need_a_root(name: str) -> None:
    with pytest.raises(UsageError, match=f"data={name} needs data.root"):
        compose([f"data={name}"])
    assert compose([f"data={name}", "data.root=here"]).data.name == name


@pytest.mark.parametrize(("group", "names"), [("data", tuple(DATASETS)), ("model", tuple(MODELS)), ("optim", OPTIMIZERS)])
def test_the_files_are_the_choices_of_the_config(group: str, names: tuple[str, ...]) -> None:
    assert group_choices(group) == sorted(names)
    for name in names:
        tree = yaml.safe_load((builtin_configs() / group / f"{name}.yaml").read_text())
        assert tree["name"] == name
        if name not in ("folder", "npz"):
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
    with pytest.raises(UsageError, match=r"experiment=min names no experiment config; choose ioffe_fig1 or mine\. Did you mean 'mine'\?"):
        compose(["experiment=min"], folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: digits\n_target_: os.system\n", "'data._target_' is refused"),
        ("name: digits\nrooot: x\n", "There is no config key 'data.rooot'. Did you mean 'data.root'?"),
        ("name: digits\nsubset: [1, 2]\n", "data.subset=[1,2] is not a whole number or null"),
        ("name: [digits\n", "The config cannot be composed"),
        ("- digits\n", "data should be a group of keys, and is [digits]"),
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
        ({"other__x": ""}, "has no folder data/, model/, optim/, metrics/ or experiment/ with group files"),
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
    (tmp_path / "data" / "mine.yaml").write_bytes(b"\xff\xfen\0")
    with pytest.raises(UsageError, match=r"mine\.yaml is not UTF-8; mend it: iconv -f UTF-16"):
        compose(["data=mine"], tmp_path)


HEADER = "# @package _global_\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "optim.lr: 0.3\n", "'optim.lr' is written with a dot; in a file it is nested, as in `optim: {lr: 0.3}`"),
        ("optim:\n  lr: 0.3\n", "experiment/mine.yaml must begin with the line `# @package _global_`"),
        ("", "experiment/mine.yaml must begin with the line `# @package _global_`"),
        (HEADER + "seed: 0x" + "F" * 6000 + "\n", "seed=0x" + "f" * 75 + "... is out of range"),
        (HEADER + "data:\n  subset: 0x" + "F" * 6000 + "\n", "data.subset=0x" + "f" * 75 + "... is out of range"),
        (HEADER + "1: 2\n", "The config has the key 1, which is not text"),
        (HEADER + "optim:\n  true: 2\n", "optim has the key true, which is not text"),
        (HEADER + "null: 2\n", "The config cannot be composed: Incompatible key type 'NoneType'"),  # it said nothing after the colon
        (HEADER + "data:\n  root: ${\n", "The config cannot be composed: no viable alternative at input '${'"),
        (HEADER + "defaults:\n  - /nowhere: x\n", "'/nowhere: x' in its defaults names no file of data"),
        (HEADER + "optim: 3\n", "optim should be a group of keys, and is 3"),
        ("- 1\n", "experiment/mine.yaml must begin with the line"),
        (HEADER + "- 1\n", "Cannot merge DictConfig with ListConfig"),
    ],
    ids=range(13),
)  # fmt: skip
def test_experiments_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    """One sentence each, whether or not an override goes into what the file made of a group."""
    folder = write(tmp_path, experiment__mine=text)
    for overrides in (["experiment=mine"], ["experiment=mine", "optim.lr=0.3"]):
        with pytest.raises(UsageError) as caught:
            compose(overrides, folder)
        said = str(caught.value)
        assert message in said
        assert len(said) < 350
        assert said.isprintable()
        assert not said.endswith(": ")
        assert "search path" not in said
    assert compose() == Config()  # Hydra's global state is whole


def test_a_folder_with_the_name_of_a_file_is_no_choice(tmp_path: Path) -> None:
    write(tmp_path, data__other="name: digits\n")
    (tmp_path / "data" / "mine.yaml").mkdir()
    with pytest.raises(UsageError, match="data=mine names no data config; choose cifar10") as caught:
        compose(["data=mine"], tmp_path)
    assert "search path" not in str(caught.value)


def test_a_config_dir_that_is_a_loop_of_links(tmp_path: Path) -> None:
    os.symlink(tmp_path / "loop", tmp_path / "loop")  # noqa: PTH211 (the link is to itself)
    with pytest.raises(UsageError, match="is not a folder"):
        compose([], tmp_path / "loop")


GRIDS = {
    "nothing": [],
    "one": ["optim.lr=0.3"],
    "lists": ["seed=0,1,2", "optim.lr=0.1,0.3", "train.batch_size=16,8"],
    "range": ["seed=range(3)", "train.steps=range(10,40,10)"],
    "float range": ["optim.lr=range(0.1,0.5,0.1)"],
    "choice": ["optim.lr=choice(0.3,0.1)", "model.norm=choice(none,batch)"],
    "sorted": ["optim.lr=sort(0.3,0.1,0.2)", "seed=sort(range(3),reverse=true)"],
    "tagged": ["seed=tag(mine,choice(1,2))"],
    "quoted": ["data=npz", "name='a',\"b\"", "data.root='x, y=z',\"it's\",w\\,v"],
    "null and auto": ["train.eval_every=auto,7", "data.subset=null,300", "model.bn_affine=true,false"],
    "lists of lists": ["model.widths=[8],[16,32],[4,4,4]"],
    "groups": ["data=digits,mnist", "seed=0,1", "model=mlp,blocknet", "optim=adam,sgd"],
    "a group and its keys": ["model=mlp,blocknet", "model.widths=[8],[4]", "optim.lr=0.5", "optim=adam,sgd"],
    "duplicates": ["seed=1,1,0"],
    "a key twice": ["seed=0,1", "optim.lr=0.1,0.2", "seed=5,6,7"],
    "a group twice": ["model=mlp,blocknet", "seed=0,1", "model=blocknet"],
}


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_is_that_of_hydras_own_sweeper(grid: str) -> None:
    parsed = OverridesParser.create().parse_overrides(GRIDS[grid])
    (cells,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    assert expand(GRIDS[grid]) == [compose(cell) for cell in cells]


def test_grids() -> None:
    assert [(c.seed, c.optim.lr) for c in expand(["seed=0,1", "optim.lr=0.1,0.3"])] == [(0, 0.1), (0, 0.3), (1, 0.1), (1, 0.3)]
    assert [c.seed for c in expand(["seed=1,1"])] == [1, 1]
    assert expand() == [Config()]


def test_a_grid_from_a_folder_of_the_user(tmp_path: Path) -> None:
    folder = write(tmp_path, experiment__a=HEADER + "seed: 3\n", experiment__b=HEADER + "optim:\n  lr: 0.5\n")
    found = expand(["experiment=a,b", "optim.momentum=0.5,0.6"], folder)
    assert [(c.seed, c.optim.lr, c.optim.momentum) for c in found] == [(3, 0.1, 0.5), (3, 0.1, 0.6), (0, 0.5, 0.5), (0, 0.5, 0.6)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lr=0.1,-1"], "optim.lr=-1.0 is out of range"),
        (["seed=0,1", "model.norm=batch,bach"], f"model.norm=bach is not one of {one_of(NORMS)}. Did you mean 'batch'?"),
        (["data=digits,mnits"], "data=mnits names no data config"),
        (["train.batch_size=8,1", "model=mlp"], "train.batch_size=1 gives batch norm one value a channel"),
        (["seed=0,1", "optim.lrr=0.1,0.2"], "There is no config key 'optim.lrr'"),
        (["data.name=mnist,digits"], "'data.name=mnist,digits' is refused: write data=mnist,digits."),
        (["data.root=a,${x}"], "is refused: interpolations"),
        (["seed=range(3,3)"], "'seed=range(3,3)' is empty: the grid has no cell"),
        (["optim.lr=range(0.5,0.1)", "seed=0,1"], "is empty: the grid has no cell"),
        (["seed=range(0,3,0)"], "'seed=range(0,3,0)' is no range"),
        (["optim.lr=range(0,1,nan)"], "'optim.lr=range(0,1,nan)' is no range"),
        (["optim.lr=range(0,inf)"], "'optim.lr=range(0,inf)' has more than 100,000 values"),  # it went on until the memory was full
        (["seed=range(0,1000000000)"], "has more than 100,000 values"),
        (["seed=range(1000)", "train.steps=range(1,1001)"], "The grid has 1,000,000 cells; 100,000 is the most"),
        (["seed=choice()"], "cannot be read as key=value"),
        (["optim.lr=interval(0.1,0.2)"], "'optim.lr=interval(0.1,0.2)' is no list of values"),
        (["data=glob(*)"], "'data=glob(*)' is no list of values"),
    ],
)  # fmt: skip
def test_grids_that_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand(overrides)
    assert message in str(caught.value)


def test_completions() -> None:
    assert completions("optim.l") == ["optim.lr="]
    assert completions("optim.lr=") == ["optim.lr="]
    assert completions("data=mn") == ["data=mnist"]
    assert completions("model.norm=") == ["model.norm=", *(f"model.norm={name}" for name in NORMS)]
    assert completions("model.norm=b") == ["model.norm=batch"]
    assert completions("model.bn_affine=t") == ["model.bn_affine=true"]
    assert completions("train.eval_every=a") == ["train.eval_every=auto"]
    assert completions("data.subset=n") == ["data.subset=null"]
    assert {f"{key}=" for key in KEYS} - {"data.name=", "model.name="} <= set(completions(""))
    assert "model.name=mlp" not in completions("model.name=")
    assert completions("zzz") == completions("zzz=") == completions("=") == []
