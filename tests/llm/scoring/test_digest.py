import json

import pytest

from llm.models.load import load_policy, peft_config
from llm.scoring.digest import contents, data_digest, tokenizer_digest, weights_digest
from tests.llm.models import tiny
from tests.llm.scoring import made
from theory.errors import UserError


def test_weights(tmp_path):
    first = weights_digest(made.reference(tmp_path / "a"))
    assert weights_digest(made.reference(tmp_path / "b")) == first
    assert weights_digest(made.reference(tmp_path / "c", seed=1)) != first
    assert weights_digest(made.oracle(tmp_path / "d")) != first  # the same language model with a head
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights in safetensors"):
        weights_digest(str(tmp_path / "a"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_counts_with_its_base(tmp_path):
    from peft import get_peft_model

    bases = [made.reference(tmp_path / f"base{seed}", seed) for seed in range(2)]
    place = tmp_path / "adapter"
    get_peft_model(load_policy(bases[0]), peft_config(r=2, target_modules=["q_proj"])).save_pretrained(place)
    first = weights_digest(str(place))
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": bases[1]}))
    assert weights_digest(str(place)) != first


def test_tokenizer(tmp_path):
    first = tokenizer_digest(tiny.tokenizer())
    used = tiny.tokenizer()
    used(["a b", "c"], padding=True, truncation=True, max_length=1)  # leaves traces that change no row
    assert tokenizer_digest(used) == first
    used.save_pretrained(tmp_path)
    assert tokenizer_digest(type(used).from_pretrained(tmp_path)) == first
    assert tokenizer_digest(tiny.tokenizer(template="{{ messages }}")) != first
    assert tokenizer_digest(tiny.tokenizer(eos="a")) != first


def test_data():
    data = made.data()
    digest = data_digest(data["id"], contents(data))
    assert data_digest(data["id"], contents(made.data())) == digest
    changed = data.map(lambda row, at: {"rejected": row["rejected"] + " z" * (at == 3)}, with_indices=True)
    assert [a == b for a, b in zip(contents(data), contents(changed), strict=True)] == [True] * 3 + [False] + [True] * 3
    assert data_digest(data["id"], contents(changed)) != digest
    assert data_digest(["ab", "c"], ["", ""]) != data_digest(["a", "bc"], ["", ""])
