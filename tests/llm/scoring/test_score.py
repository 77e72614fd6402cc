import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llm.models.load import load_policy
from llm.models.reward_head import last_attended
from llm.scoring import score as module
from llm.scoring.files import read
from llm.scoring.job import Job
from llm.scoring.member import Member
from llm.scoring.score import score
from tests.llm.models import tiny
from tests.llm.scoring import made
from theory.errors import UserError


@pytest.fixture
def ref(tmp_path: Path) -> str:
    return made.reference(tmp_path / "ref")


@pytest.fixture
def oracles(tmp_path: Path) -> tuple[str, ...]:
    return tuple(made.oracle(tmp_path / f"oracle{seed}", seed, family) for seed, family in enumerate(("llama", "opt")))


def tokens(row, side, limit):
    tokenizer = tiny.tokenizer()
    prompt = tokenizer(row["prompt"])["input_ids"]
    return prompt, (prompt + tokenizer(row[side])["input_ids"] + [1])[:limit]


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        score(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("limit", [8, 64])
def test_reference_log_probabilities_by_brute_force(ref, tmp_path, limit, caplog):
    dataset, out = made.data(), tmp_path / "scores.parquet"
    with caplog.at_level(logging.WARNING):
        report = score(dataset, Job((ref,), "reference", limit, batch_size=3), out)
    rows = {row["id"]: row for row in pq.read_table(out).to_pylist()}
    model = tiny.model(dtype=torch.float64)
    dropped = 0
    for row in dataset:
        for side in ("chosen", "rejected"):
            prompt, ids = tokens(row, side, limit)
            found = rows[row["id"]][f"ref_{side}_logps"]
            if len(prompt) >= limit:
                assert found is None
                dropped += 1
                continue
            logs = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
            expected = sum(float(logs[t - 1, ids[t]].detach()) for t in range(len(prompt), len(ids)))
            assert found == pytest.approx(expected, abs=1e-4)
    assert (report.rows, report.scored, report.dropped) == (7, 7 - dropped // 2, dropped // 2)
    assert ("prompt longer than the limit" in caplog.text) == bool(dropped) == (limit == 8)


def test_rewards_of_an_ensemble_by_hand(oracles, tmp_path):
    dataset, out = made.data(), tmp_path / "scores.parquet"
    report = score(dataset, Job(oracles, "reward", 64, batch_size=2), out)
    table = pq.read_table(out)
    assert table["id"].to_pylist() == dataset["id"][:]
    models = [load_policy(name, reward_head=True).eval() for name in oracles]
    margins = []
    for row in dataset:
        rewards = {}
        for side in ("chosen", "rejected"):
            ids = torch.tensor([tokens(row, side, 64)[1]])
            states = [model.base_model(ids).last_hidden_state for model in models]
            rewards[side] = [
                float((last_attended(h, None) @ m.reward_head.weight[0]).detach()) for h, m in zip(states, models, strict=True)
            ]
            found = table.filter(np.array(table["id"].to_pylist()) == row["id"])[f"reward_{side}"].to_pylist()[0]
            assert found == pytest.approx(rewards[side], abs=1e-5)
        margins.append(np.subtract(rewards["chosen"], rewards["rejected"]))
    assert report.margin == pytest.approx(np.mean(margins, 0), abs=1e-5)
    assert report.accuracy == pytest.approx((np.array(margins) > 0).mean(0))


def test_a_single_reward_model_gives_plain_numbers(oracles, tmp_path):
    score(made.data(), Job(oracles[:1], "reward", 64), tmp_path / "one.parquet")
    score(made.data(), Job(oracles, "reward", 64), tmp_path / "two.parquet")
    one, two = (pq.read_table(tmp_path / f"{name}.parquet")["reward_chosen"].to_pylist() for name in ("one", "two"))
    assert one == [members[0] for members in two]


def test_rewards_of_a_classifier_are_its_own(tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**{**tiny.CONFIGS["llama"].to_dict(), "num_labels": 1})).eval()
    model.save_pretrained(tmp_path / "rm")
    tiny.tokenizer().save_pretrained(tmp_path / "rm")
    dataset = made.data()
    score(dataset, Job((str(tmp_path / "rm"),), "reward", 64, batch_size=4), tmp_path / "scores.parquet")
    found = pq.read_table(tmp_path / "scores.parquet")["reward_rejected"].to_pylist()
    expected = [float(model(torch.tensor([tokens(row, "rejected", 64)[1]])).logits.detach()) for row in dataset]
    assert found == pytest.approx(expected, abs=1e-5)


def test_batch_size_changes_nothing(oracles, tmp_path):
    for size in (1, 5):
        score(made.data(), Job(oracles, "reward", 64, batch_size=size), tmp_path / f"{size}.parquet")
    one, five = (np.array(pq.read_table(tmp_path / f"{size}.parquet")["reward_chosen"].to_pylist()) for size in (1, 5))
    np.testing.assert_allclose(one, five, rtol=1e-5, atol=1e-6)


def test_interrupted_anywhere_and_resumed(oracles, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    dataset, job = made.data(), Job(oracles, "reward", 8, batch_size=2)
    score(dataset, job, tmp_path / "whole.parquet")
    computed = []
    chunk = Member.chunk
    monkeypatch.setattr(Member, "chunk", lambda self, ids: computed.append(tuple(ids)) or chunk(self, ids))
    out, stops = tmp_path / "scores.parquet", 0

    def stop(done, total):
        raise KeyboardInterrupt

    while True:  # each start does one chunk and is interrupted
        try:
            report = score(dataset, job, out, stop)
            break
        except KeyboardInterrupt:
            stops += 1
            assert not out.exists()
    assert stops == len(computed) == 8  # four chunks of two models, each computed once
    assert report.resumed == 14
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "scores.parquet.parts").exists()
    # What is there already is left as it is.
    assert score(dataset, job, out, stop).resumed == 14
    assert len(computed) == 8


def test_a_broken_part_is_computed_again(ref, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    dataset, job, out = made.data(), Job((ref,), "reference", 64), tmp_path / "scores.parquet"

    def stop(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(dataset, job, out, stop)
    first, _ = sorted((tmp_path / "scores.parquet.parts").iterdir())
    first.write_bytes(first.read_bytes()[:50])
    assert score(dataset, job, out).resumed == 2
    score(dataset, job, tmp_path / "whole.parquet")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_shares_of_several_processes_make_the_same_file(ref, tmp_path, monkeypatch):
    from threading import Barrier, Thread

    monkeypatch.setattr(module, "CHUNK", 2)
    dataset, job, out = made.data(), Job((ref,), "reference", 64), tmp_path / "scores.parquet"
    score(dataset, job, tmp_path / "whole.parquet")
    computed, chunk, barrier = [], Member.chunk, Barrier(2)
    monkeypatch.setattr(Member, "chunk", lambda self, ids: computed.append(tuple(ids)) or chunk(self, ids))
    ranks = [module.Ranks(rank, 2, barrier.wait) for rank in range(2)]
    monkeypatch.setattr(module.Ranks, "here", lambda: ranks.pop())
    reports = []
    threads = [Thread(target=lambda: reports.append(score(dataset, job, out))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == len(set(computed)) == 4
    assert [report.scored for report in reports] == [7, 7]
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_what_a_file_says_of_itself(ref, tmp_path):
    out = tmp_path / "scores.parquet"
    score(made.data(), Job((ref,), "reference", 64), out)
    record = json.loads(pq.read_schema(out).metadata[b"prefproof.scores"])
    assert record["kind"] == "reference"
    assert record["models"] == [ref]
    assert record["max_length"] == 64
    assert record["dtype"] == "float32"
    assert {len(record["data"]), len(record["weights"][0]), len(record["tokenizers"][0])} == {64}
    assert record["versions"]["trl"].startswith("1.16")
    assert read(out).provenance.key == read(out).provenance.loads(json.dumps(record)).key


def test_other_scores_are_not_overwritten(ref, tmp_path, monkeypatch):
    out, dataset = tmp_path / "scores.parquet", made.data()
    score(dataset, Job((ref,), "reference", 64), out)
    before = out.read_bytes()
    assert "another --max-length" in refusal(dataset, Job((ref,), "reference", 32), out)
    assert "another data" in refusal(made.data(seed=1), Job((ref,), "reference", 64), out)
    assert "another --dtype" in refusal(dataset, Job((ref,), "reference", 64, dtype="bfloat16"), out)
    other = made.reference(tmp_path / "other", seed=1)
    assert "another model" in refusal(dataset, Job((other,), "reference", 64), out)
    template = made.reference(tmp_path / "template", template="{{ messages[0]['content'] }}")
    assert "another tokenizer or chat template" in refusal(dataset, Job((template,), "reference", 64), out)
    assert out.read_bytes() == before
    # ... nor mixed with the parts of another run.
    monkeypatch.setattr(module, "CHUNK", 2)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(dataset, Job((ref,), "reference", 64), tmp_path / "new.parquet", stop)
    assert "another --max-length" in refusal(dataset, Job((ref,), "reference", 32), tmp_path / "new.parquet")
    (tmp_path / "mine.parquet").write_text("not scores")
    assert "no complete Parquet" in refusal(dataset, Job((ref,), "reference", 64), tmp_path / "mine.parquet")


def test_scores_that_are_not_numbers(tmp_path):
    model = tiny.model()
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    tiny.tokenizer().save_pretrained(tmp_path / "broken")
    dataset, out = made.data(), tmp_path / "scores.parquet"
    text = refusal(dataset, Job((str(tmp_path / "broken"),), "reference", 64), out)
    assert "scores nan" in text
    assert any(row in text for row in dataset["id"])
    assert not out.exists()


def test_a_model_that_cannot_read_the_tokens(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    dataset, out = made.data(), tmp_path / "scores.parquet"
    config = tiny.CONFIGS["llama"].to_dict()
    for name, changes in {"short": {"max_position_embeddings": 8}, "narrow": {"vocab_size": 10}}.items():
        LlamaForCausalLM(LlamaConfig(**{**config, **changes})).save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
    assert "reads at most 8 tokens" in refusal(dataset, Job((str(tmp_path / "short"),), "reference", 64), out)
    assert "that the model does not" in refusal(dataset, Job((str(tmp_path / "narrow"),), "reference", 64), out)


def test_too_little_memory_names_the_batch_size(ref, tmp_path, monkeypatch):
    def full(self, rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Member, "_scores", full)
    assert "--batch-size 4: does not fit" in refusal(made.data(), Job((ref,), "reference", 64, 4), tmp_path / "s.parquet")


def test_a_full_disk(ref, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm.scoring.files.pq.write_table", full)
    assert "No space left on device" in refusal(made.data(), Job((ref,), "reference", 64), tmp_path / "s.parquet")
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "rewards"}, "did you mean reward?"),
        ({"models": ()}, "name at least one"),
        ({"models": ("a", "b")}, "second reference"),
        ({"max_length": 1}, "at least 2"),
        ({"batch_size": 0}, "at least 1"),
        ({"dtype": "int8"}, "choices"),
    ],
)
def test_jobs_that_make_no_sense(changes, words):
    with pytest.raises(UserError, match=words):
        Job(**{"models": ("a",), "kind": "reference", **changes})


def test_ids_are_unique(ref, tmp_path):
    twice = made.data().select([0, 1, 0])
    assert "an id twice" in refusal(twice, Job((ref,), "reference", 64), tmp_path / "s.parquet")
