import torch

from llm.trainers.collator import PairCollator

ROWS = [
    {"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": [8], "ref_chosen_logps": -1.5, "ref_rejected_logps": -2.5},
    {"prompt_ids": [9], "chosen_ids": [10], "rejected_ids": [11], "ref_chosen_logps": -3.5, "ref_rejected_logps": -4.5},
]


def rewarded(first, second):
    scores = (
        {"reward_chosen": first[0], "reward_rejected": first[1]},
        {"reward_chosen": second[0], "reward_rejected": second[1]},
    )
    return [{**row, **more} for row, more in zip(ROWS, scores, strict=True)]


def test_tokens_are_trls_and_scores_travel_beside_them():
    batch = PairCollator(0)(rewarded((1.0, 2.0), (3.0, 4.0)))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 10, 0], [5, 8, 0], [9, 11, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert batch["ref_chosen_logps"].tolist() == [-1.5, -3.5]
    assert batch["ref_rejected_logps"].tolist() == [-2.5, -4.5]
    assert batch["reward_chosen"].tolist() == [1.0, 3.0]
    assert batch["reward_rejected"].tolist() == [2.0, 4.0]


def test_an_ensemble_has_its_members_on_the_leading_axis():
    batch = PairCollator(0)(rewarded(([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), ([4.0, 5.0, 6.0], [7.0, 8.0, 9.0])))
    assert batch["reward_chosen"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert batch["reward_rejected"].tolist() == [[0, 7], [0, 8], [0, 9]]


def test_what_the_data_lack_the_batch_lacks():
    bare = [{name: row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in ROWS]
    assert set(PairCollator(0)(bare)) == {"input_ids", "attention_mask", "completion_mask"}


def test_scores_that_are_whole_numbers_are_floats():
    assert PairCollator(0)(rewarded((1, 2), (3, 4)))["reward_chosen"].dtype == torch.float32


def test_lengths_are_cut_and_padded_as_asked():
    batch = PairCollator(0, max_length=2, pad_to_multiple_of=4)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 0, 0], [9, 10, 0, 0], [5, 8, 0, 0], [9, 11, 0, 0]]
