"""A run from its configuration to its record: what it writes, refuses, survives and shares between processes."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
from pyarrow import parquet

from llm import folder
from llm.config import resolve
from llm.data.load import load_preferences
from llm.run import material_of, train
from tests.llm.models import tiny
from theory.errors import UserError

SAMPLING = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SETTINGS = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "max_length": 16,
    "save_strategy": "no",
    "activation_checkpointing": False,
    "dataloader_pin_memory": False,
    "kl_new_tokens": 4,
}


class Stop(Exception):
    """The run was interrupted."""


@pytest.fixture
def go(start, jsonl):
    """Run a method on the user's pairs; the record."""

    def call(out, method="dpo", say=lambda text: None, **changes):
        given = {"method": method, "data": str(jsonl), "model_name_or_path": str(start), **SETTINGS, **changes}
        config = resolve({key: value for key, value in given.items() if value is not None})
        return train(config, material_of(config), out, say)

    return call


def curve(out):
    """The loss of every step that the last checkpoint of a run remembers."""
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry for entry in history if "loss" in entry}


def contents(out):
    return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def ids(jsonl):
    return load_preferences(str(jsonl))["id"][:]


def rewards_file(path, jsonl, members=1, *, drop=0, change=None):
    """A file as ``llm score --kind reward`` could have made it elsewhere."""
    rows = ids(jsonl)
    values = [[0.1 * i + k for k in range(members)] for i in range(len(rows))]
    columns = {"reward_chosen": values, "reward_rejected": [[0.5 * v for v in row] for row in values]}
    if members == 1:
        columns = {name: [row[0] for row in column] for name, column in columns.items()}
    if change is not None:
        columns["reward_chosen"][0] = change
    kept = len(rows) - drop
    parquet.write_table(pa.table({"id": rows[:kept], **{name: c[:kept] for name, c in columns.items()}}), path)
    return str(path)


def test_a_record_says_what_was_done(go, tmp_path, start):
    out = tmp_path / "deep" / "run"
    said = []
    record = go(out, say=said.append, beta=0.2)
    assert json.loads((out / "run.json").read_text()) == json.loads(json.dumps(record))
    assert record["method"] == "dpo"
    assert record["hyperparameters"] == {"beta": 0.2}
    assert (record["steps"], record["seed"], record["logp"], record["degenerate"]) == (3, 42, "sum", False)
    assert record["output_dir"] == str(out)
    assert record["model"] == str(start)
    assert record["config"]["learning_rate"] == 1e-2
    assert record["versions"]["trl"].startswith("1.16")
    assert record["train"]["step"] == 3
    assert {"model.safetensors", "tokenizer.json", "run.json"} <= {path.name for path in out.iterdir()}
    assert not list(out.rglob("*.tmp"))
    # At the start the policy is the reference.
    assert said[-3].startswith("step 1 of 3: loss 0.6931")


def test_the_last_step_is_logged_however_seldom_the_others_are(go, tmp_path):
    assert go(tmp_path / "run", logging_steps=100)["train"]["step"] == 3


def test_the_first_loss_is_log_2_whether_scores_are_made_or_given(go, tmp_path):
    """And the same scores are used again where the file is given."""
    first = go(tmp_path / "one", max_steps=1)
    assert first["train"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    made = tmp_path / "one" / "scores" / "train-reference.parquet"
    again = go(tmp_path / "two", max_steps=1, scores=str(made))
    assert again["train"]["loss"] == first["train"]["loss"]
    assert not (tmp_path / "two" / "scores").exists()


@pytest.mark.parametrize(("method", "members"), [("d-dpo", 1), ("e-dpo", 3), ("drdo", 1)])
def test_rewards_come_from_files(method, members, go, tmp_path, jsonl):
    record = go(tmp_path / "run", method, scores=rewards_file(tmp_path / "r.parquet", jsonl, members))
    assert record["steps"] == 3
    if method == "d-dpo":  # at the start Δlog-ratio is 0, and so the loss is the mean of Δr̂² over a batch
        values = [(0.05 * i) ** 2 for i in range(len(ids(jsonl)))]
        assert min(values) <= record["train"]["loss"] <= max(values)


def test_held_out_pairs_are_measured_at_the_end(go, tmp_path, jsonl):
    record = go(tmp_path / "run", eval_data=str(jsonl))
    assert record["eval"]["eval_loss"] > 0
    assert "eval_rewards/accuracies" in record["eval"]
    assert (tmp_path / "run" / "scores" / "eval-reference.parquet").is_file()


@SAMPLING
@pytest.mark.parametrize(("method", "changes"), [("p-dpo", {"anneal": True}), ("pmle", {"beta": 0.5}), ("sft", {})])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(method, changes, go, tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, **changes}
    go(tmp_path / "whole", method, **settings)

    def stop(text):
        if text.startswith("step 5"):
            raise Stop

    with pytest.raises(Stop):
        go(tmp_path / "run", method, say=stop, **settings)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    record = go(tmp_path / "run", method, resume="auto", **settings)
    one, two = curve(tmp_path / "whole"), curve(tmp_path / "run")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    for step in one:
        for metric in ("loss", "grad_norm", "logps/chosen_change", "learning_rate"):
            assert two[step][metric] == pytest.approx(one[step][metric], abs=1e-6), (step, metric)
    assert record["steps"] == 6


def test_going_on_from_a_checkpoint_that_is_named(go, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 10}
    go(tmp_path / "run", **settings)
    before = curve(tmp_path / "run")
    go(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-2"), **settings)
    assert curve(tmp_path / "run")[4]["loss"] == pytest.approx(before[4]["loss"], abs=1e-6)
    other = go(tmp_path / "branch", resume=str(tmp_path / "run" / "checkpoint-2"), **settings)
    assert other["train"]["loss"] == pytest.approx(before[4]["loss"], abs=1e-6)


@pytest.fixture(scope="session")
def stopped(start, jsonl, tmp_path_factory):
    """A run that stopped after its third step, with a checkpoint of each."""
    out = tmp_path_factory.mktemp("stopped") / "run"

    def stop(text):
        if text.startswith("step 4"):
            raise Stop

    given = {"method": "dpo", "data": str(jsonl), "model_name_or_path": str(start), **SETTINGS, **CHECKPOINTS}
    config = resolve(given)
    with pytest.raises(Stop):
        train(config, material_of(config), out, stop)
    return out


CHECKPOINTS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 9}


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"]
)
def test_a_checkpoint_with_a_file_cut_short_is_passed_by(name, stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path / "run")
    said = []
    assert folder.checkpoint("auto", out, said.append) == str(out / "checkpoint-3")
    assert said == []
    file = out / "checkpoint-3" / name
    file.write_bytes(file.read_bytes()[:-20])
    assert folder.checkpoint("auto", out, said.append) == str(out / "checkpoint-2")
    assert said == [f"checkpoint-3 is passed by: {name} is not whole"]
    with pytest.raises(UserError, match=rf"--resume .*checkpoint-3: was cut short, {name} is not whole: give another, or auto"):
        folder.checkpoint(str(out / "checkpoint-3"), out)
    file.unlink()
    (out / "checkpoint-2" / "trainer_state.json").unlink()
    found = folder.checkpoint("auto", out, said.append)
    assert found == str(out / ("checkpoint-1" if name == "trainer_state.json" else "checkpoint-3"))


def test_weights_in_parts_are_all_there(stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path / "run")
    part = out / "checkpoint-3" / "model-00001-of-00001.safetensors"
    (out / "checkpoint-3" / "model.safetensors").rename(part)
    (out / "checkpoint-3" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": part.name}}))
    assert folder.checkpoint("auto", out) == str(out / "checkpoint-3")
    part.unlink()
    said = []
    assert folder.checkpoint("auto", out, said.append) == str(out / "checkpoint-2")
    assert said == [f"checkpoint-3 is passed by: {part.name} is missing"]


def test_a_run_goes_on_from_the_checkpoint_before_a_broken_one(stopped, go, tmp_path):
    out, said = shutil.copytree(stopped, tmp_path / "run"), []
    weights = out / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    go(out, resume="auto", say=said.append, **CHECKPOINTS)
    go(tmp_path / "whole", **CHECKPOINTS)
    assert said[0] == "checkpoint-3 is passed by: model.safetensors is not whole"
    assert [curve(out)[s]["loss"] for s in (3, 4)] == pytest.approx(
        [curve(tmp_path / "whole")[s]["loss"] for s in (3, 4)], abs=1e-6
    )


@pytest.mark.parametrize("at", ["tokens", "training"])
def test_a_run_without_a_checkpoint_begins_again(at, go, tmp_path):
    """It was stopped after it had scored, or while it trained; what is not its own is never touched."""

    def stop(text):
        if text == at:
            raise Stop

    with pytest.raises(Stop):
        go(tmp_path / "run", say=stop)
    score = tmp_path / "run" / "scores" / "train-reference.parquet"
    before, said = (score.read_bytes(), score.stat().st_mtime_ns), []
    with pytest.raises(UserError, match="holds another run: give another directory, or --resume auto"):
        go(tmp_path / "run")
    record = go(tmp_path / "run", resume="auto", say=said.append)
    assert said[0] == "no whole checkpoint: from the beginning"
    assert (record["steps"], (score.read_bytes(), score.stat().st_mtime_ns)) == (3, before)
    for held in ("run", "other"):  # a run that has ended, and somebody else's files
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="has no whole checkpoint: start anew in another directory"):
            go(tmp_path / held, resume="auto")


def test_the_least_reward_of_an_ensemble_is_said_to_be_a_micro_batchs(go, tmp_path, jsonl):
    file = rewards_file(tmp_path / "r.parquet", jsonl, 3)
    for name, parts, words in (
        ("one", 1, "each batch of 4 pairs"),
        ("two", 2, "each micro-batch of 4 pairs, 2 a step; only one micro-batch a step is exact"),
    ):
        said = []
        record = go(tmp_path / name, "e-dpo", scores=file, say=said.append, gradient_accumulation_steps=parts, max_steps=1)
        assert record["least_over"] == words
        assert f"the least reward of the ensemble is chosen over {words}" in said
    assert go(tmp_path / "dpo", max_steps=1)["least_over"] is None


@pytest.mark.parametrize("method", ["dpo", "oracle"])
def test_lora_by_keys(method, go, tmp_path):
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        record = go(tmp_path / "run", method, use_peft=True, lora_r=2, lora_target_modules="all-linear")
    assert record["steps"] == 3
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()


def test_one_world_from_nothing(quick_world, tmp_path):
    """DRDO with a teacher of its own; the exact distances before and after."""
    from llm.world import experiment

    given = {"method": "drdo", "tokens": 3, "length": 2, "prompts": 2, "comparisons": 60, "max_steps": 2}
    config = resolve(given)
    world = experiment.make_world(config, tmp_path)
    record = experiment.run_world(config, tmp_path / "run", world=world)
    assert {"forward_kl_before", "forward_kl_after", "floor", "method", "objective", "steps", "seconds"} <= set(record)
    assert record["forward_kl_after"] != record["forward_kl_before"]
    assert record["steps"] == 2
    true = experiment.run_world(resolve({**given, "oracle": "true"}), tmp_path / "true", world=world)
    assert true["train"]["loss"] != record["train"]["loss"]
    assert not (tmp_path / "true-teacher-0").exists()


def test_a_world_that_would_be_refused_makes_nothing(tmp_path):
    from llm.world import experiment

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    for method, name, words in (("rlhf", "run", "METHOD rlhf"), ("dpo", "taken", "holds another run")):
        with pytest.raises(UserError, match=words):
            experiment.run_world(resolve({"method": method}), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_world_goes_on_with_the_teacher_that_it_has(quick_world, tmp_path):
    from llm.world import experiment

    given = {"method": "d-dpo", "tokens": 3, "length": 2, "prompts": 2, "comparisons": 60, "max_steps": 4}
    given |= {"save_strategy": "steps", "save_steps": 1, "logging_steps": 1}
    config = resolve(given)

    def stop(text):
        if text.startswith("step 3 of 4"):
            raise Stop

    with pytest.raises(Stop):
        experiment.run_world(config, tmp_path / "run", say=stop)
    teacher = contents(tmp_path / "run-teacher-0")
    record = experiment.run_world(resolve({**given, "resume": "auto"}), tmp_path / "run")
    assert record["steps"] == 4
    assert contents(tmp_path / "run-teacher-0") == teacher


@pytest.mark.parametrize("left", ["two steps", "nothing but its record", "a temporary file"])
def test_a_world_trains_a_teacher_again_that_was_stopped(left, quick_world, tmp_path):
    from llm.world import experiment

    given = {"method": "e-dpo", "tokens": 3, "length": 2, "prompts": 2, "comparisons": 60, "max_steps": 2}

    def stop(text):
        if teachers == 2 and text.startswith("step"):
            raise Stop

    def count(text):
        nonlocal teachers
        teachers += text.startswith("reward model")
        stop(text)

    teachers, said = 0, []
    with pytest.raises(Stop):
        experiment.run_world(resolve(given), tmp_path / "run", say=count)
    if left != "two steps":
        half = tmp_path / "run-teacher-1"
        for file in half.iterdir():
            if left == "a temporary file" or file.name != "run.json":
                file.unlink()
        if left == "a temporary file":
            (half / ".abc.tmp").write_text("{")
    first = contents(tmp_path / "run-teacher-0")
    assert not (tmp_path / "run").exists()
    record = experiment.run_world(resolve({**given, "resume": "auto"}), tmp_path / "run", say=said.append)
    assert record["steps"] == 2
    assert contents(tmp_path / "run-teacher-0") == first
    again = [text for text in said if text.startswith(("reward model", "no whole"))]
    begun = [] if left == "a temporary file" else ["no whole checkpoint: from the beginning"]
    assert again == ["reward model 2", *begun, "reward model 3"]
    whole = experiment.run_world(resolve(given), tmp_path / "whole")
    assert record["train"]["loss"] == pytest.approx(whole["train"]["loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("dpo", {"data": "/nowhere/pairs.jsonl"}, "--data /nowhere/pairs.jsonl"),
        ("dpo", {"model_name_or_path": "/nowhere/model"}, "--model /nowhere/model: there is no such folder"),
        ("dpo", {"model_name_or_path": None}, "--model-name-or-path: name the model to start from"),
        ("drdo", {}, "--scores: drdo distils a reward: make its scores with llm score --kind reward"),
        ("e-dpo", {}, "--scores: e-dpo distils a reward"),
        ("dpo", {"scores": "/nowhere/s.parquet"}, "/nowhere/s.parquet: there is no such file"),
        ("rlhf", {}, "METHOD rlhf: maximises a reward on samples of its own, which no trainer here does yet"),
        ("rkl", {}, "METHOD rkl: maximises a reward on samples of its own"),
        ("simpo", {"logp": "mean"}, "--logp mean: simpo divides by the length itself: use sum"),
        ("dpo", {"resume": "auto"}, "--resume auto: "),
        ("dpo", {"resume": "/nowhere/checkpoint-3"}, "--resume /nowhere/checkpoint-3: is no checkpoint's folder"),
        ("dpo", {"optim": "adamm"}, "--config: TRL refuses it: "),
        ("dpo", {"eval_strategy": "steps"}, "--eval-strategy steps: needs --eval-data"),
        ("dpo", {"use_peft": True, "lora_target_modules": "nothing_like_it"}, "--config: TRL refuses it: "),
        ("dpo", {"use_peft": True, "lora_r": 0}, "--lora-r 0: must be at least 1"),
        ("dpo", {"quantization": "3bit"}, "--quantization 3bit: "),
        ("dpo", {"dtype": "float31"}, "--dtype float31: "),
        ("dpo", {"max_length": 1}, "--max-length 1: must be at least 2"),
        ("dpo", {"max_length": 2}, "--max-length 2: every prompt is longer than the limit"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_run(method, changes, words, go, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UserError) as error:
        go(out, method, **changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (out / "run.json").exists()


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("e-dpo", {"members": 2}, "--scores: e-dpo reads 3 rewards a response; the data have 2"),
        ("d-dpo", {"members": 3}, "--scores: d-dpo reads 1 rewards a response; the data have 3"),
        ("d-dpo", {"drop": 2}, "has no score for 2 of"),
        ("d-dpo", {"change": float("nan")}, "reward_chosen is nan in 1 rows"),
        ("d-dpo", {"change": None, "members": 1, "drop": 1}, "has no score for 1 of"),
        ("e-dpo", {"members": 3, "change": [1.0, 2.0]}, "has ensembles of different sizes in reward_chosen: 2 and 3"),
    ],
)
def test_rewards_that_do_not_fit(method, options, words, go, tmp_path, jsonl):
    file = rewards_file(tmp_path / "r.parquet", jsonl, **options)
    with pytest.raises(UserError) as error:
        go(tmp_path / "run", method, scores=file)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_rewards_among_the_datas_own_columns_are_checked(go, tmp_path, jsonl):
    rows = [json.loads(line) for line in jsonl.read_text().splitlines()]
    for name, value, words in (("good", 0.5, None), ("bad", None, "row 1, field reward_chosen: has no score")):
        for i, row in enumerate(rows):
            row |= {"reward_chosen": value if i == 0 else 0.5, "reward_rejected": 0.1}
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if words is None:
            assert go(tmp_path / name, "d-dpo", data=str(path))["steps"] == 3
            continue
        with pytest.raises(UserError, match=words):
            go(tmp_path / name, "d-dpo", data=str(path))


def test_conversations_for_a_tokenizer_without_a_template(go, tmp_path):
    """As OPT on UltraFeedback: the reference reads them alike, and what is saved needs no option any more."""
    tiny.model("opt").save_pretrained(tmp_path / "opt")
    tiny.tokenizer(template=None).save_pretrained(tmp_path / "opt")
    turns = {"prompt": ("user", "a b"), "chosen": ("assistant", "c d"), "rejected": ("assistant", "e")}
    row = {side: [{"role": role, "content": text}] for side, (role, text) in turns.items()}
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({**row, "id": str(i)}) + "\n" for i in range(4)))
    given = {"data": str(tmp_path / "talks.jsonl"), "model_name_or_path": str(tmp_path / "opt"), "max_steps": 1}
    with pytest.raises(UserError, match=r"the tokenizer has no chat template: .* --chat-template plain"):
        go(tmp_path / "none", **given)
    record = go(tmp_path / "run", chat_template="plain", **given)
    assert record["train"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert record["config"]["chat_template"] == "plain"
    again = go(tmp_path / "again", **{**given, "model_name_or_path": str(tmp_path / "run")})
    assert again["train"]["logps/chosen"] != record["train"]["logps/chosen"]


def test_another_run_is_never_overwritten(go, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1}
    go(tmp_path / "run", **settings)
    before = contents(tmp_path / "run")
    for method, changes, words in (
        ("dpo", {}, "--output-dir .*: holds another run: give another directory, or --resume auto"),
        ("ipo", {"resume": "auto"}, "--output-dir .*: holds a run with method dpo, not ipo"),
        ("dpo", {"resume": "auto", "beta": 0.5}, "--output-dir .*: holds a run with hyperparameters"),
        ("dpo", {"resume": "auto", "logp": "mean"}, "--output-dir .*: holds a run with logp sum, not mean"),
    ):
        with pytest.raises(UserError, match=words):
            go(tmp_path / "run", method, **settings, **changes)
        assert contents(tmp_path / "run") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for resume in (None, str(tmp_path / "run" / "checkpoint-3")):
        with pytest.raises(UserError, match=r"--output-dir .*other: holds another run"):
            go(tmp_path / "other", resume=resume, **settings)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_a_directory_that_cannot_be(go, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"--output-dir .*file: is a file: give a directory"):
        go(tmp_path / "file")
    with pytest.raises(UserError, match=r"--output-dir .*run: cannot be written: "):
        go(tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def command(out, jsonl, start, method, *words, **changes):
    """A command line that does as `go` does."""
    given = {**SETTINGS, "data": jsonl, "model_name_or_path": start, "output_dir": out, **changes}
    return ["-m", "llm", "train", method, *[f"--{key.replace('_', '-')}={value}" for key, value in given.items()], *words]


def started(line, **options):
    """A process of its own session, so that its children can be ended with it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen([sys.executable, *line], env=environment, start_new_session=True, text=True, **options)


def on_two(line, **options):
    """What two processes under torch's launcher print."""
    return ended(["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *line], **options)


def ended(line, **options):
    """What a process prints that ends well; one that does not end is killed with its children."""
    process = started(line, **options)
    try:
        said = process.communicate(timeout=180)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return said


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_nothing_had_been(go, tmp_path, jsonl, start):
    """SIGKILL in the middle of training, not at a convenient place."""
    settings = {"max_steps": 150, "save_strategy": "steps", "save_steps": 5}
    line = command(tmp_path / "run", jsonl, start, "p-dpo", "--anneal", **settings)
    process = started(line)
    while len(list((tmp_path / "run").glob("checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.37)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert started([*line, "--resume=auto"]).wait(timeout=180) == 0
    go(tmp_path / "whole", "p-dpo", anneal=True, **settings)
    one, two = curve(tmp_path / "whole"), curve(tmp_path / "run")
    assert list(one) == list(two) == list(range(1, 151))
    assert [two[s]["loss"] for s in two] == pytest.approx([one[s]["loss"] for s in one], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"), [("dpo", {}), ("oracle", {}), ("ipo", {"logp": "mean"}), ("p-dpo", {"anneal": "true"})]
)
def test_two_processes_are_one_with_the_same_global_batch(method, more, go, tmp_path, jsonl, start):
    """Gloo on two processes with two pairs each; the scores are shared out too."""
    settings = {"save_strategy": "steps", "save_steps": 3, **more}
    on_two(command(tmp_path / "two", jsonl, start, method, **{**settings, "per_device_train_batch_size": 2}))
    go(tmp_path / "one", method, **settings)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert list(one) == list(two) == [1, 2, 3]
    for step in one:
        for metric in ("loss", "grad_norm", "rewards/margins", "num_tokens", "entropy"):
            assert two[step][metric] == pytest.approx(one[step][metric], abs=1e-5), (step, metric)


@pytest.mark.slow
def test_the_processors_of_one_machine_by_name(go, tmp_path, jsonl, start):
    """``--accelerate-config multi_cpu`` starts as many processes as asked for, and they are one with the same batch."""
    changes = {"save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 2, "accelerate_config": "multi_cpu"}
    line = command(tmp_path / "two", jsonl, start, "dpo", "--num-processes=2", "--json", **changes)
    assert json.loads(ended(line, stdout=subprocess.PIPE))["steps"] == 3
    go(tmp_path / "one", save_strategy="steps", save_steps=3)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert [two[s]["loss"] for s in two] == pytest.approx([one[s]["loss"] for s in one], abs=1e-5)


@pytest.mark.slow
def test_two_processes_sample_and_say_once(tmp_path, jsonl, start):
    said = on_two(command(tmp_path / "run", jsonl, start, "pmle", "--json"), stdout=subprocess.PIPE)
    assert json.loads(said)["steps"] == 3
