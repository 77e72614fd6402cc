"""`llm train` as a user types it."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llm import launch
from llm.cli import main as program
from llm.cli import train as command

WORLD = ["--tokens", "3", "--length", "2", "--prompts", "2", "--comparisons", "60", "--max-steps", "2"]


@pytest.fixture
def quiet(monkeypatch):
    """The command's own settings of the libraries, undone afterwards."""
    import datasets
    import transformers

    yield
    datasets.enable_progress_bars()
    transformers.logging.enable_progress_bar()
    transformers.logging.set_verbosity_warning()


@pytest.fixture
def flags(start, jsonl):
    settings = {
        "data": jsonl,
        "model_name_or_path": start,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "max_length": 16,
        "save_strategy": "no",
        "dataloader_pin_memory": "false",
    }
    return [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]


def test_a_table_for_people_and_its_progress_on_standard_error(run, flags, tmp_path, quiet):
    done = run("train", "dpo", *flags, "--output-dir", tmp_path / "run", "--beta", "0.2")
    assert done.code == 0
    for words in ("log-probabilities  sum over tokens", "beta = 0.2", "degeneracy alarm", "−log σ(β(Δlogπ − Δlogπ_ref))"):
        assert words in done.out
    assert "… step 2 of 2: loss" in done.err
    assert all(line.startswith("… ") for line in done.err.splitlines()), done.err


@pytest.mark.parametrize("method", ["dpo", "sft", "oracle"])
def test_json_is_one_object_and_nothing_else(method, run, flags, tmp_path, quiet):
    done = run("train", method, *flags, "--output-dir", tmp_path / "run", "--json")
    assert done.code == 0
    assert {"method", "objective", "steps", "seconds", "output_dir"} <= set(done.json)
    assert done.json["method"] == method
    assert done.err == ""


def test_the_world_needs_no_data_and_no_model(run, tmp_path, quiet, quick_world):
    done = run("train", "dpo", *WORLD, "--output-dir", tmp_path / "run", "--json")
    assert {"forward_kl_before", "forward_kl_after", "floor"} <= set(done.json)
    table = run("train", "dpo", *WORLD, "--output-dir", tmp_path / "again")
    assert "forward KL to the target, before" in table.out
    assert "its floor on an exact table" in table.out


def test_yaml_and_flags_that_override_it(run, flags, tmp_path, quiet):
    path = tmp_path / "run.yaml"
    path.write_text(f"method: dpo\nbeta: 0.2\nlearning-rate: 1e-6\nseed: 3\noutput-dir: {tmp_path / 'from-yaml'}\n")
    done = run("train", "--config", path, *flags, "--json").json
    assert done["hyperparameters"] == {"beta": 0.2}
    assert (done["seed"], done["config"]["learning_rate"]) == (3, 1e-6)
    assert done["output_dir"] == str(tmp_path / "from-yaml")
    over = ["--beta=0.7", "--learning-rate", "1e-3", "--output-dir", tmp_path / "flag"]
    done = run("train", "--config", path, *flags, *over, "--json").json
    assert done["hyperparameters"] == {"beta": 0.7}
    assert (done["seed"], done["config"]["learning_rate"]) == (3, 1e-3)
    assert done["output_dir"] == str(tmp_path / "flag")
    done = run("train", "ipo", "--config", path, *flags, "--output-dir", tmp_path / "ipo")
    assert done.error.startswith("--beta: is no key of a run")


def test_a_users_own_loss(run, flags, tmp_path, quiet):
    file = tmp_path / "mine.py"
    file.write_text("def mine(pair, *, scale: float = 2.0):\n    return (scale - pair.logratio_margin) ** 2\n")
    done = run("train", "--objective", f"{file}:mine", *flags, "--scale", "3", "--output-dir", tmp_path / "run", "--json").json
    assert done["method"] == "mine"
    assert done["hyperparameters"] == {"scale": 3.0}
    assert done["steps"] == 2
    assert run("train", "--objective", f"{file}:mein", *flags).error.endswith("has no function mein; did you mean mine?")
    assert "cannot be combined with the method dpo" in run("train", "dpo", "--objective", f"{file}:mine", *flags).error


def test_flags_without_a_value_are_true(run, flags, tmp_path, quiet):
    done = run("train", "p-dpo", "--anneal", *flags, "--output-dir", tmp_path / "run", "--json").json
    assert done["annealed"] == {"lambda_": [1e-4, 1e-2]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "METHOD: name an objective (see `theory methods`), or give --objective file.py:name"),
        (["dpi"], "METHOD dpi: is not a known objective; did you mean dpo?"),
        (["rlhf"], "METHOD rlhf: maximises a reward on samples of its own, which no trainer here does yet"),
        (["rkl"], "METHOD rkl: maximises a reward on samples of its own, which no trainer here does yet"),
        (["dpo", "--learning-rat", "1"], "--learning-rat: is no key of a run; did you mean learning_rate?"),
        (["dpo", "--logp", "median"], "--logp median: did you mean mean? (choices: sum, mean)"),
        (["dpo", "--kl", "sampels"], "--kl sampels: did you mean samples? (choices: samples, offline)"),
        (["simpo", "--logp", "mean"], "--logp mean: simpo divides by the length itself: use sum"),
        (["dpo", "ipo"], "ipo: is one word too many after dpo"),
        (["dpo", "-b", "0.1"], "-b: is no option; options begin with --"),
        (["dpo", "--beta"], "--beta True: must be a number"),
        (["dpo", "--accelerate-config", "zero7"], "--accelerate-config zero7: did you mean zero"),
        (["dpo", "--num-processes", "2"], "--num-processes 2: needs --accelerate-config: multi_cpu, multi_gpu, zero2, …"),
        (["dpo", "--num-processes", "0", "--accelerate-config", "multi_cpu"], "--num-processes 0: must be at least 1"),
        (["dpo", "--chat-template", "plain"], "--chat-template plain: needs --data"),
        (["dpo", "--config", "/nowhere.yaml"], "--config /nowhere.yaml: there is no such file"),
        (["dpo", "--scores", "a.parquet"], "--scores a.parquet: needs --data: the known-target world has its own"),
        (["dpo", "--model-name-or-path", "a"], "--model-name-or-path a: needs --data"),
        (["dpo", "--data", "a.jsonl", "--tokens", "4"], "--tokens 4: is of the known-target world: leave out --data"),
        (["dpo", "--tokens", "1"], "--tokens 1: must be a whole number, at least 2"),
        (["dpo", "--comparisons", "0"], "--comparisons 0: must be at least 1"),
        (["dpo", "--data", "none.jsonl"], "--model-name-or-path: name the model to start from"),
    ],
)
def test_bad_input_is_one_line(words, said, run, tmp_path, monkeypatch, quiet):
    monkeypatch.chdir(tmp_path)
    assert said in run("train", *words).error
    assert {path.name for path in tmp_path.iterdir()} <= {"runs"}
    assert not list(tmp_path.glob("runs/*/run.json"))


def test_a_yaml_that_is_no_mapping(run, tmp_path):
    (tmp_path / "run.yaml").write_text("- dpo\n")
    assert run("train", "--config", tmp_path / "run.yaml").error.endswith("must be a flat mapping of keys to values")


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """What would be started instead of this process."""
    calls = []

    def start(line, **options):
        calls.append((line, options["env"]))
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(subprocess, "run", start)
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize("where", ["flag", "yaml"])
def test_accelerate_starts_the_same_command_once(where, launched, monkeypatch, tmp_path):
    (tmp_path / "run.yaml").write_text("method: dpo\naccelerate_config: zero2\n")
    words = ["train", "dpo", "--accelerate-config", "zero2"] if where == "flag" else ["train", "--config", "run.yaml"]
    monkeypatch.setattr(sys, "argv", ["llm", *words])
    assert program.run(words) == 7
    ((line, environment),) = launched
    assert line[1:3] == ["-m", "accelerate.commands.launch"]
    assert line[line.index("--config_file") + 1].endswith("zero2.yaml")
    assert line[-len(words) - 2 :] == ["-m", "llm", *words]
    assert environment[launch.LAUNCHED] == "1"


def test_processors_are_started_by_torchs_launcher(launched, monkeypatch, tmp_path):
    """Accelerate would start one process of them."""
    (tmp_path / "four.yaml").write_text("distributed_type: MULTI_CPU\nnum_processes: 4\n")
    for where, more, count in (("multi_cpu", [], "2"), ("four.yaml", [], "4"), ("four.yaml", ["--num-processes", "3"], "3")):
        words = ["train", "dpo", "--accelerate-config", where, *more]
        monkeypatch.setattr(sys, "argv", ["llm", *words])
        assert program.run(words) == 7
        line, environment = launched.pop()
        assert line[1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count, "-m", "llm", *words]
        assert environment["ACCELERATE_USE_CPU"] == "true"
        assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_number_of_processes_overrides_a_configurations_own(launched, monkeypatch):
    words = ["train", "dpo", "--accelerate-config", "multi_gpu", "--num-processes", "3"]
    monkeypatch.setattr(sys, "argv", ["llm", *words])
    assert program.run(words) == 7
    ((line, _),) = launched
    assert line[1:3] == ["-m", "accelerate.commands.launch"]
    assert line[line.index("--num_processes") + 1] == "3"
    assert line.index("--num_processes") < line.index("llm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distributed_type: MULTI_CPU\n", "names no num_processes: give --num-processes"),
        ("distributed_type: MULTI_CPU\nnum_machines: 2\n", "accelerate launch --mpirun_hostfile FILE -m llm train …"),
        ("- 1\n", "must be a flat mapping"),
    ],
)
def test_a_configuration_that_cannot_be_started(text, words, run, launched, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    assert words in run("train", "dpo", "--accelerate-config", "own.yaml").error
    assert launched == []


def test_a_process_that_was_launched_trains(launched, monkeypatch, tmp_path):
    monkeypatch.setenv(launch.LAUNCHED, "1")
    monkeypatch.setattr(command, "_run", lambda *args, **more: {"method": "dpo"})
    assert program.run(["train", "dpo", "--accelerate-config", "zero2", "--json"]) == 0
    assert launched == []


def test_only_the_first_process_speaks(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "_run", lambda *args, **more: {"method": "dpo"})
    for rank, said in (("0", '{"method": "dpo"}'), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert program.run(["train", "dpo", "--json"]) == 0
        assert capsys.readouterr().out.strip() == said


def test_help_needs_no_heavy_library():
    """And says so quickly: nothing heavy is imported before a command runs."""
    heavy = ("torch", "transformers", "trl", "datasets", "accelerate", "peft", "pandas", "pyarrow")
    code = f"import sys; from llm.cli.main import run; run(['--help']); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) == []
    for name in program.COMMANDS:
        assert name in done.stdout


def test_help_of_train_says_what_the_keys_are(run):
    done = run("train", "--help")
    assert done.code == 0
    for words in ("--learning-rate", "--logp", "--scores", "--accelerate-config", "--resume"):
        assert words in done.out
