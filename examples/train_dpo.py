"""Train the policy by DPO on an export, with the reference log-probabilities that it holds.

TRL would load a second copy of the model as reference, or run over all pairs first. Here it does
neither. Run it after `make demo`:

    .venv/bin/python examples/train_dpo.py
"""

from __future__ import annotations

from typing import Any

from exported import Progress, arguments, check_tokens, load_policy, read_rows
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer


class StoredReferenceDPOTrainer(DPOTrainer):
    """Takes the reference's log-probabilities from the rows' `ref_chosen_logps` and the like."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Return the rows as they are: they have what TRL would compute here."""
        return dataset


def configuration(output: str, steps: int) -> DPOConfig:
    """Return what is trained with; on a GPU give it larger batches."""
    return DPOConfig(
        output,
        precompute_ref_log_probs=True,  # so that no reference model is loaded
        max_length=None,  # a truncated completion has another log-probability than the stored
        bf16=False,  # as the demo's log-probabilities were computed
        beta=0.1,
        learning_rate=5e-6,
        lr_scheduler_type="constant",
        per_device_train_batch_size=2,
        gradient_checkpointing=False,
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,  # True on a GPU
        disable_tqdm=True,
    )


def main() -> None:
    """Train, printing loss and margin, and save the model."""
    options = arguments(__doc__.splitlines()[0], output="data/demo/trained/dpo")
    rows = read_rows(options.export, "dpo_ref")
    model, tokenizer = load_policy(options.export, options.model)
    trainer = StoredReferenceDPOTrainer(
        model=model,
        args=configuration(options.output, options.steps),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[Progress()],
    )
    check_tokens(trainer.train_dataset, "chosen_ids", "chosen_tokens")
    check_tokens(trainer.train_dataset, "rejected_ids", "rejected_tokens")
    trainer.remove_callback(PrinterCallback)
    print(f"{len(rows)} pairs; reference model: {trainer.ref_model}")
    trainer.train()
    trainer.save_model()
    print(f"trained model in {options.output}")


if __name__ == "__main__":
    main()
