"""One flat set of keys, each known, of its type and in its range."""

import pytest

from llm import config
from llm.config import coerce, read_yaml, resolve
from theory.errors import UserError


def test_keys_are_sorted_to_whom_they_belong():
    found = resolve(
        {
            "method": "p-dpo",
            "beta": "0.3",
            "lambda": 0.5,
            "learning-rate": "5e-7",
            "max_steps": "1e3",
            "model_name_or_path": "here",
            "lora_r": "8",
            "comparisons": "3e4",
            "scores": "one.parquet",
        }
    )
    assert found.objective.name == "p-dpo"
    assert found.hyper == {"beta": 0.3, "lambda_": 0.5}
    assert found.training == {"learning_rate": 5e-7, "max_steps": 1000}
    assert found.model == {"model_name_or_path": "here", "lora_r": 8}
    assert found.run.comparisons == 30_000
    assert found.run.scores == ["one.parquet"]
    assert found.flat()["learning_rate"] == 5e-7
    assert found.flat()["lambda_"] == 0.5


def test_beta_is_the_objectives_and_nobody_elses():
    assert "beta" not in config.training_keys()
    with pytest.raises(UserError, match="--beta: is no key of a run"):
        resolve({"method": "ipo", "beta": 0.1})


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("learning_rat", "learning_rate"),
        ("per_device_batch_size", "per_device_eval_batch_size|per_device_train_batch_size"),
        ("comparison", "comparisons"),
        ("lora_alfa", "lora_alpha"),
        ("bta", "beta"),
        ("--max-stps", "max_steps"),
        ("accelerate-confg", "accelerate_config"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(key, near):
    with pytest.raises(UserError, match=f"is no key of a run; did you mean ({near})\\?"):
        resolve({"method": "dpo", key: 1})


@pytest.mark.parametrize("key", sorted(config.UNUSED - {"beta"}))
def test_trls_keys_that_would_do_nothing_are_unknown(key):
    from dataclasses import fields

    from trl import DPOConfig

    with pytest.raises(UserError, match="is no key of a run"):
        resolve({"method": "dpo", key: 1})
    assert key in {f.name for f in fields(DPOConfig)} or key in ("config", "resume_from_checkpoint")


def test_a_secret_is_no_key():
    """A run writes down all that it was given."""
    with pytest.raises(UserError, match="--hub-token: is no key"):
        resolve({"method": "dpo", "hub_token": "hf_secret"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "METHOD: name an objective"),
        ({"method": "dpo", "objective": "x.py:y"}, "METHOD dpo: name an objective"),
        ({"method": "dpi"}, "METHOD dpi: is not a known objective; did you mean dpo?"),
        ({"method": "dpo", "beta": "much"}, "--beta much: must be a number"),
        ({"method": "dpo", "beta": 0}, "--beta 0: must lie in (0, inf)"),
        ({"method": "dpo", "beta": "nan"}, "--beta nan: must lie in"),
        ({"method": "dpo", "logp": "median"}, "--logp median: "),
        ({"method": "dpo", "kl": "sampels"}, "--kl sampels: did you mean samples? (choices: samples, offline)"),
        ({"method": "dpo", "kl": 3}, "--kl 3: known: offline, samples"),
        ({"method": "hypo", "kl": "ofline"}, "--kl ofline: did you mean offline?"),
        ({"method": "hypo", "kl": -1}, "--kl -1: must lie in"),
        ({"method": "dpo", "oracle": "tru"}, "--oracle tru: did you mean true?"),
        ({"method": "dpo", "max_steps": "many"}, "--max-steps many: must be of type int"),
        ({"method": "dpo", "max_steps": 1.5}, "--max-steps 1.5: must be of type int"),
        ({"method": "dpo", "max_steps": True}, "--max-steps True: must be of type int"),
        ({"method": "dpo", "bf16": "perhaps"}, "--bf16 perhaps: must be of type bool"),
        ({"method": "dpo", "learning_rate": "nan"}, "--learning-rate nan: must be finite"),
        ({"method": "dpo", "learning_rate": "1e400"}, "--learning-rate inf: must be finite"),
        ({"method": "dpo", "gamma": 0}, "--gamma 0.0: must be positive"),
        ({"method": "pmle", "kl_new_tokens": 0}, "--kl-new-tokens 0: must be at least 1"),
        ({"method": "dpo", "use_peft": "dpo"}, "--use-peft dpo: must be of type bool"),
    ],
)
def test_bad_values_are_one_line(given, words):
    with pytest.raises(UserError) as error:
        resolve(given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_with_two_meanings_takes_both():
    """HyPO's weight κ of the KL is called kl, and so is how that KL is estimated."""
    both = resolve({"method": "hypo", "kl": ["0.5", "offline"]})
    assert both.hyper == {"kl": 0.5}
    assert both.run.kl == "offline"
    assert resolve({"method": "hypo", "kl": 0.5}).run.kl == "samples"
    assert resolve({"method": "hypo", "kl": "offline"}).hyper == {}
    assert resolve({"method": "pmle", "kl": "offline"}).run.kl == "offline"


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        ("1e-6", float, 1e-6),
        ("7", int, 7),
        ("1e3", int, 1000),
        (3, float, 3.0),
        ("true", bool, True),
        ("False", bool | None, False),
        ("0.1", float | None, 0.1),
        ("null", float | None, None),
        (None, int | None, None),
        ("cosine", str, "cosine"),
        ("1", str, "1"),
        ("q_proj", list[str] | None, ["q_proj"]),
        (["a", "b"], list[str], ["a", "b"]),
        ('{"a": 1}', dict[str, int] | str | None, '{"a": 1}'),
        ('{"a": 1}', dict[str, int] | None, {"a": 1}),
    ],
)
def test_text_of_a_flag_becomes_what_the_field_holds(value, hint, wanted):
    found = coerce("key", value, hint)
    assert found == wanted
    assert type(found) is type(wanted)


def test_yaml_of_numbers_that_yaml_reads_as_text(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: dpo\nlearning_rate: 1e-6\nbeta: 5e-2\nsave_steps: 1e2\n")
    found = resolve(read_yaml(path))
    assert found.training == {"learning_rate": 1e-6, "save_steps": 100.0}
    assert found.hyper == {"beta": 0.05}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "must be a flat mapping"),
        ("just text", "must be a flat mapping"),
        ("", "must be a flat mapping"),
        ("1: 2\n", "must be a flat mapping"),
        ("a: [1\n", "is no YAML file"),
        ("a: !!python/object/apply:os.getcwd []\n", "is no YAML file"),
    ],
)
def test_what_is_no_yaml_of_keys(text, words, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"--config {path}: {words}"):
        read_yaml(path)


def test_a_yaml_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="is no YAML file"):
        read_yaml(tmp_path / "binary.yaml")
    with pytest.raises(UserError, match="is no YAML file"):
        read_yaml(tmp_path)
