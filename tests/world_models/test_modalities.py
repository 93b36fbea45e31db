"""Two pictures an observation, from frames to losses and imagination."""

import torch

from tests import small
from tests.world_models.test_token import begin, plain_losses
from tokenworlds.tokenizers.observation import ObservationTokenizer


def test_two_modalities_pass_from_frames_through_tokens_to_losses_and_steps() -> None:
    parts = {"image": small.image_tokenizer(), "map": small.image_tokenizer(levels=5, vocab_size=5, seed=1)}
    tokenizer = ObservationTokenizer(parts).eval()
    world_model = small.world_model(tokenizer.layout)
    with torch.no_grad():
        tokens = tokenizer.encode({"image": small.frames(6), "map": small.frames(6, seed=1)}).unflatten(0, (2, 3))
        mask = torch.tensor([[True, True, True], [True, True, False]])
        actions, ends = torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([[0, 0, 1], [0, 1, 0]])
        data = {
            "tokens": tokens,
            "actions": actions,
            "rewards": torch.tensor([[0.0, 2, -1], [1, 0, 0]]),
            "ends": ends,
            "mask": mask,
        }
        losses = world_model.loss(**data)
        for value, expected in zip((losses.observations, losses.rewards, losses.ends), plain_losses(world_model, data)):
            torch.testing.assert_close(value, expected)
        state, _, _ = world_model.step(
            begin(world_model, tokens[:, 0]), actions[:, 0], small.step_noise(tokenizer.layout, 2)
        )
        seen = tokenizer.decode(state.tokens)
    assert {name: frames.shape for name, frames in seen.items()} == dict.fromkeys(("image", "map"), (2, 3, 16, 16))
    assert state.tokens[:, 4].max() < 5
