"""Train the policy by QRPO (https://arxiv.org/abs/2507.08068) on an export, one completion a row.

The quantile rewards of the reference policy's own answers are uniform, so the partition function is
known, and with it the log-ratio that the best policy gives each answer. The loss is the squared
distance from it: it takes no pairs, and no reference model where the export has log-probabilities.
Run it after `make demo`:

    .venv/bin/python examples/train_qrpo.py
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from exported import Progress, arguments, check_tokens, load_policy, read_rows
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback, Trainer, TrainingArguments

BETA = 5.0
# beta/|y| in the place of beta everywhere, where |y| is the number of the completion's tokens.
LENGTH_NORMALIZED = True


def log_partition(beta: torch.Tensor) -> torch.Tensor:
    """Return log Z = log beta + log(exp(1/beta) - 1), without computing the exponential.

    For a small beta it is log beta + 1/beta.
    """
    return beta.log() + 1 / beta + (-torch.expm1(-1 / beta)).log()


def qrpo_loss(log_ratio: torch.Tensor, quantile: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Return (quantile - beta log Z - beta (log pi - log pi_ref))^2 of each completion."""
    return (quantile - beta * log_partition(beta) - beta * log_ratio) ** 2


def tokenize(row: dict[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    """Return the tokens of prompt and completion, parted as TRL does and the export counts."""

    def ids(messages: list[dict[str, str]], opened: bool) -> list[int]:
        return tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=opened,
            tokenize=True,
            return_dict=True,
            **row.get("chat_template_kwargs", {}),
        )["input_ids"]

    prompt, whole = ids(row["prompt"], True), ids(row["prompt"] + row["completion"], False)
    parting = next(
        (at for at, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt)
    )
    return {"prompt_ids": whole[:parting], "completion_ids": whole[parting:]}


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return a batch, padded on the right."""
    ids = [torch.tensor(row["prompt_ids"] + row["completion_ids"]) for row in rows]
    parts = [[0] * len(row["prompt_ids"]) + [1] * len(row["completion_ids"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
        "completion_mask": pad_sequence([torch.tensor(part) for part in parts], batch_first=True),
        "ref_logprob": torch.tensor([row["ref_logprob"] for row in rows]),
        "quantile": torch.tensor([row["quantile_reward"] for row in rows]),
        "chosen": torch.tensor([row["selected_as"] == "chosen" for row in rows]),
    }


class QRPOTrainer(Trainer):
    """Trains on the QRPO loss, and logs the margin of the last batches."""

    loss_is_scaled_for_ga = False  # it is a batch's mean

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recent: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=4)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Return the mean loss of a batch."""
        ids, mask = inputs["input_ids"], inputs["completion_mask"][:, 1:]
        outputs = model(input_ids=ids, attention_mask=inputs["attention_mask"])
        logprobs = outputs.logits[:, :-1].float().log_softmax(-1)
        logprob = (logprobs.gather(-1, ids[:, 1:, None])[..., 0] * mask).sum(1)
        log_ratio = logprob - inputs["ref_logprob"]
        beta = BETA / (mask.sum(1) if LENGTH_NORMALIZED else torch.ones_like(log_ratio))
        self.recent.append(((beta * log_ratio).detach(), inputs["chosen"]))
        loss = qrpo_loss(log_ratio, inputs["quantile"], beta).mean()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the margin to what is logged."""
        rewards, chosen = map(torch.cat, zip(*self.recent, strict=True))
        margin = rewards[chosen].mean() - rewards[~chosen].mean()
        super().log({**logs, "rewards/margins": margin.item()}, start_time)


def configuration(output: str, steps: int) -> TrainingArguments:
    """Return what is trained with; on a GPU give it larger batches."""
    return TrainingArguments(
        output,
        bf16=False,  # as the demo's log-probabilities were computed
        learning_rate=4e-6,
        lr_scheduler_type="constant",
        per_device_train_batch_size=4,
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,  # the batch is made of the export's columns
        report_to="none",
        dataloader_pin_memory=False,  # True on a GPU
        disable_tqdm=True,
    )


def main() -> None:
    """Train, printing loss and margin, and save the model."""
    options = arguments(__doc__.splitlines()[0], output="data/demo/trained/qrpo")
    samples = read_rows(options.export, "qrpo")
    rows = samples.filter(lambda row: row["ref_logprob"] is not None)
    if not len(rows):
        raise SystemExit("no row of qrpo has a ref_logprob; the export's manifest.json says why")
    model, tokenizer = load_policy(options.export, options.model)
    rows = rows.map(tokenize, fn_kwargs={"tokenizer": tokenizer})
    check_tokens(rows, "completion_ids", "completion_tokens")
    trainer = QRPOTrainer(
        model=model,
        args=configuration(options.output, options.steps),
        train_dataset=rows,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    left_out = len(samples) - len(rows)
    print(f"{len(rows)} completions; {left_out} without a reference log-probability are left out")
    trainer.train()
    trainer.save_model()
    print(f"trained model in {options.output}")


if __name__ == "__main__":
    main()
