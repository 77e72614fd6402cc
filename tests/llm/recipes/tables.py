"""What the papers print of every run, typed in from their tables: unified Tables 5 and 6, drdo App. D, distillation's notes."""

from __future__ import annotations

TLDR = "openai/summarize_from_feedback"
ULTRAFEEDBACK = "argilla/ultrafeedback-binarized-preferences-cleaned"

# Unified Table 5: batch, learning rate, schedule, epochs.
LORA = {"full": False, "lora_r": 1024, "lora_alpha": 2048, "lora_dropout": 0.0}
TABLE_5 = {
    "sft": {"batch": 64, "learning_rate": 3e-6, "lr_scheduler_type": "cosine", "num_train_epochs": 1, "full": True},
    "reward": {"batch": 64, "learning_rate": 3e-6, "lr_scheduler_type": "cosine", "num_train_epochs": 1, "full": True},
    "dpo": {"batch": 64, "learning_rate": 3e-6, "lr_scheduler_type": "linear", "num_train_epochs": 1, "beta": 0.05, **LORA},
    "pmle": {"batch": 512, "learning_rate": 1e-6, "lr_scheduler_type": "linear", "num_train_epochs": 1, **LORA},
    "rebel": {"batch": 512, "learning_rate": 3e-6, "lr_scheduler_type": "linear", "num_train_epochs": 4, "eta": 1.0, **LORA},
    "pref-distill": {
        "batch": 512,
        "learning_rate": 3e-6,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 4,
        "gamma": 0.1,
        "beta": 0.05,
        "kl_new_tokens": 53,
        **LORA,
    },
}
# Unified Table 6.
SCHEDULE = {"batch": 128, "lr_scheduler_type": "cosine", "num_train_epochs": 1, "full": True}
TABLE_6 = {
    "dpo": {**SCHEDULE, "learning_rate": 5e-7, "beta": 0.05},
    "pmle": {**SCHEDULE, "learning_rate": 3e-7, "gamma": 5e-3, "beta": 0.0},
    "rebel": {**SCHEDULE, "learning_rate": 3e-7},
    "pref-distill": {**SCHEDULE, "learning_rate": 3e-7, "gamma": 0.05},
}
# drdo Table 6 and App. D.
COMMON = {
    "batch": 64,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.05,
    "optim": "paged_adamw_32bit",
    "max_length": 1024,
    "gradient_checkpointing": True,
    "accelerate_config": "zero2",
    "full": True,
}
DRDO = {
    "sft": {**COMMON, "learning_rate": 1e-5, "warmup_steps": 100},
    "oracle": {**COMMON, "learning_rate": 1e-5, "alpha_lm": 0.01, "num_train_epochs": 1},
    "reward": {**COMMON, "learning_rate": 1e-5, "num_train_epochs": 1},
    "dpo": {**COMMON, "learning_rate": 5e-6, "max_steps": 1000, "beta": 0.1},
    "e-dpo": {**COMMON, "learning_rate": 5e-6, "max_steps": 1000},
    "drdo": {**COMMON, "learning_rate": 5e-6, "max_steps": 1000, "alpha": 0.1, "gamma_f": 2},
}
# Distillation, Experiment Setup.
REWARD = {"method": "reward", "batch": 64, "learning_rate": 4e-6, "max_steps": 3000}
POLICY = {"batch": 16, "learning_rate": 1e-6, "max_steps": 10_000}
PESSIMISTIC = ("p-dpo", "dp-dpo", "e-dpo")


def _runs() -> dict[str, dict[str, object]]:
    runs: dict[str, dict[str, object]] = {}
    for size in ("2.8b", "6.9b"):
        runs |= {f"unified/tldr-pythia-{size}-{method}": {"method": method, **row} for method, row in TABLE_5.items()}
    runs |= {f"unified/ultrafeedback-llama-3-8b-{method}": {"method": method, **row} for method, row in TABLE_6.items()}
    students = {"opt-125m": "", "opt-350m": "", "opt-1.3b": "teachers", "opt-2.7b": "", "phi-3-mini": "teachers"}
    for student, teachers in students.items():
        for method, row in DRDO.items():
            if teachers or method not in ("oracle", "reward"):
                runs[f"drdo/ultrafeedback-{student}-{method}"] = {"method": method, "data": ULTRAFEEDBACK, **row}
    runs["drdo/tldr-phi-3-mini-sft"] = {"method": "sft", **DRDO["sft"]}
    for split in ("all", "hc-he", "lc-le"):
        data = f"data/tldr-splits/{split.replace('-', '_')}"
        runs |= {f"drdo/tldr-{split}-phi-3-mini-{m}": {"method": m, "data": data, **row} for m, row in DRDO.items() if m != "sft"}
    stem = "distillation/tldr-pythia-2.8b"
    runs |= {f"{stem}-sft": {"method": "sft"}, f"{stem}-oracle": {**REWARD, "data": TLDR}, f"{stem}-reward": REWARD}
    for method in ("dpo", "ipo", "d-dpo", *PESSIMISTIC):
        runs[f"{stem}-{method}"] = {"method": method, **POLICY, "anneal": True if method in PESSIMISTIC else None}
    return runs


RUNS = _runs()
