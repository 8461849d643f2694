"""What is known to be wrong or missing in any export, as its card and its metadata tell it."""

from __future__ import annotations

BIASES = (
    "How graders, judges and reward models treat languages was not measured: prompts of some "
    "languages may be rated lower for their language.",
    "Judges and reward models prefer some things that are not quality, such as length and format; "
    "a policy that is trained on their rewards can learn to please them (reward hacking).",
)
LIMITATIONS = (
    "Completions are synthetic: models wrote them, and they may be wrong, offensive or invented.",
    "References and some chosen completions are the policy's own samples: the pairs fit the policy "
    "that the manifest names, and become less apt as another one, or it in training, differs.",
    "Texts that spell special tokens, such as `<|im_start|>`, stand in rows as they are. vLLM gave "
    "them to the models as text; trainers such as TRL read them as the tokens, and so do the token "
    "counts and log-probabilities here.",
    "Where a chat template writes the day, log-probabilities and token counts are those of the "
    "manifest's `template_date`, and a trainer has another day: train with the same, which rows "
    "carry where the recipe gives it as an argument of the template (`date_string`).",
    "Prompts of some sources are published as benchmarks too, such as PolygloToxicityPrompts, "
    "whose authors advise against training on it: do not evaluate on what was trained on.",
)
PERSONAL = (
    "Prompts are words of people, and may hold personal data and opinions that laws protect; "
    "nothing was removed from them beyond what the recipe's rules exclude."
)
KNOWN_LIMITS = (*BIASES, *LIMITATIONS, PERSONAL)
