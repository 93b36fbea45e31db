"""The faults: where, what it is in plain words, which text becomes which, and the tests that should notice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One edit of one file."""

    file: str
    what: str
    old: str  # occurs exactly once in the file
    new: str
    tests: tuple[str, ...]  # files or folders below tests/

    def insert(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: the text to replace is not there exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {text.count(self.old)} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


def _fault(file: str, what: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(file, what, old, new, tuple(f"tests/{name}" for name in tests))


SRC = "src/tokenworlds"

FAULTS = (
    _fault(
        f"{SRC}/actor_critic/losses.py", "a termination no longer cuts the return",
        "terminations.logical_not()", "terminations.logical_or(~terminations.bool())", "actor_critic",
    ),
    _fault(
        f"{SRC}/actor_critic/losses.py", "steps after the first termination count",
        "terminations.cumsum(dim=1) == terminations", "terminations.cumsum(dim=1) >= terminations", "actor_critic",
    ),
    _fault(
        f"{SRC}/actor_critic/losses.py", "entropy is punished",
        "-entropy_weight * entropy", "entropy_weight * entropy", "actor_critic", "golden/test_iris_behaviour.py",
    ),
    _fault(
        f"{SRC}/actor_critic/normalisation.py", "advantages are blown up by a small spread",
        "/ 2).clamp(min=1)", "/ 2)", "actor_critic",
    ),
    _fault(
        f"{SRC}/backbones/adaptation.py", "frozen layers are trained",
        'requires_grad_("lora_" in name)', "requires_grad_(True)", "backbones/test_adaptation.py",
    ),
    _fault(
        f"{SRC}/backbones/lora.py", "low-rank additions are not scaled", "* self.scale", "* 1.0",
        "backbones/test_adaptation.py",
    ),
    _fault(
        f"{SRC}/backbones/pretrained.py", "a pretrained trunk keeps its fresh weights",
        "wanted[name].copy_(value)", "wanted[name].clone().copy_(value)", "training/test_trunk.py",
    ),
    _fault(
        f"{SRC}/backbones/weights_of_llama.py", "rows of rotated pairs stay next to each other",
        "(heads, -1, 2)).transpose(1, 2)", "(heads, -1, 2))", "backbones/test_pretrained.py",
    ),
    _fault(
        f"{SRC}/agents/token_cache.py", "tokens of an older tokenizer are kept",
        "if tokenizer_updates != self._updates:", "if self._updates < 0:", "agents/test_token_cache.py",
    ),
    _fault(
        f"{SRC}/agents/imagination.py", "all steps share one noise",
        "StepNoise(self.rewards[t]", "StepNoise(self.rewards[0]", "agents/test_imagination.py",
    ),
    _fault(
        f"{SRC}/agents/imagined_world.py", "a new episode's frames are not read",
        "**changed), self.memory", "**changed), self.frames", "agents/test_imagined_world.py",
    ),
    _fault(
        f"{SRC}/world_model_env.py", "rows share their random numbers",
        "for one in self._uniforms]", "for one in self._uniforms[:1] * len(self._elapsed)]",
        "test_world_model_env.py",
    ),
    _fault(
        f"{SRC}/world_model_env.py", "an ended episode goes on",
        "            self._ended = terminations | truncations\n", "", "test_world_model_env.py",
    ),
    _fault(
        f"{SRC}/world_model_env.py", "a new episode is as old as the last one",
        "            self._elapsed[row] = 0\n", "", "test_world_model_env.py",
    ),
    _fault(
        f"{SRC}/backbones/transformer.py", "tokens attend to later ones",
        "is_causal = mask is None and q.shape[2] > 1", "is_causal = False", "backbones/test_transformer.py",
        "backbones/test_law.py",
    ),
    _fault(
        f"{SRC}/ops/retention.py", "keys lose their scale",
        "1 / (inside * math.sqrt(2 * self.half_dim))", "1 / inside", "backbones/test_retnet.py",
    ),
    _fault(
        f"{SRC}/ops/dropout.py", "the expectation shrinks",
        "ctx.scale = LEVELS / (LEVELS - threshold)", "ctx.scale = 1.0", "ops",
    ),
    _fault(
        f"{SRC}/ops/categorical.py", "a class with probability zero can be sampled",
        "cumulated <= uniforms", "cumulated < uniforms", "ops",
    ),
    _fault(
        f"{SRC}/losses.py", "padding weighs in the mean",
        "mask.sum().clamp(min=1)", "mask.numel()", "test_losses.py",
    ),
    _fault(
        f"{SRC}/rng.py", "all random streams are one",
        'f"{seed}/{name}"', 'f"{seed}"', "test_rng.py",
    ),
    _fault(
        f"{SRC}/methods/component.py", "accumulated gradients are not averaged",
        "(losses.total / self.config.gradient_accumulation).backward()", "losses.total.backward()",
        "methods/test_component.py",
    ),
    _fault(
        f"{SRC}/methods/optimisers.py", "biases decay too",
        '"bias" not in name and key not in spared', 'key not in spared', "methods/test_component.py",
    ),
    _fault(
        f"{SRC}/tokenizers/quantiser.py", "no gradient passes the quantiser",
        "self.project_out(v + (nearest - v).detach())", "self.project_out(nearest)", "tokenizers/test_quantiser.py",
        "tokenizers/test_delta.py",
    ),
    _fault(
        f"{SRC}/tokenizers/ema.py", "codes are averages of all latents, however many chose them",
        "self.sums / smoothed.unsqueeze(1)", "self.sums / total", "tokenizers/test_ema.py",
    ),
    _fault(
        f"{SRC}/tokenizers/ema.py", "a use does not save a code from replacement",
        "self.unused.add_(1).mul_(chosen == 0)", "self.unused.add_(1)", "tokenizers/test_ema.py",
    ),
    _fault(
        f"{SRC}/tokenizers/lfq.py", "the entropy of all codes is lowered",
        "return (of_all * of_all", "return -(of_all * of_all", "tokenizers/test_lfq.py",
    ),
    _fault(
        f"{SRC}/tokenizers/lpips.py", "random features are others in every process",
        "manual_seed(seed)", "manual_seed(torch.seed() % 2**32)",
        "tokenizers/test_random_features.py",
    ),
    _fault(
        f"{SRC}/tokenizers/terms/value.py", "no gradient of the value loss reaches the encoder",
        "self.critic(scene.codes)", "self.critic(scene.codes.detach())", "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/tokenizers/terms/motion.py", "motion is not measured against its mean",
        "changes / means.where(means > 0, 1)", "changes", "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/tokenizers/terms/focal_frequency.py", "weights of frequencies have a gradient",
        "power.detach() **", "power **", "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/tokenizers/terms/adversarial.py", "the tokenizer's adversary trains the discriminator, too",
        "parameter.detach() for name", "parameter for name", "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/tokenizers/terms/adversarial.py", "the discriminator learns from the first update on",
        "has_begun * (weight * value + discriminator)", "has_begun * weight * value + discriminator",
        "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/ops/similarity.py", "all scales count alike",
        "exponent / sum(exponents)", "1 / len(exponents)", "ops/test_similarity.py",
    ),
    _fault(
        f"{SRC}/replay/returns.py", "returns are those of the rows before the replay grew",
        "if self._rows != self.buffer.rows:", "if not self._rows:", "replay/test_returns.py",
    ),
    _fault(
        f"{SRC}/replay/returns.py", "the last steps of finished episodes are not sampled either",
        "self.unfinished * (i in running)", "self.unfinished", "replay/test_returns.py",
    ),
    _fault(
        f"{SRC}/replay/previous.py", "the first frame of an episode follows a blank one",
        "torch.where(before > 0, before, rows)", "before", "replay/test_returns.py",
    ),
    _fault(
        f"{SRC}/methods/optimisers.py", "gradients of the discriminator are clipped with those of the tokenizer",
        "if OWN not in group for", "for", "tokenizers/test_terms.py",
    ),
    _fault(
        f"{SRC}/tokenizers/fsq.py", "digits of a token are read in the wrong base",
        "// self.steps % self.levels", "// self.steps", "tokenizers/test_fsq.py",
    ),
    _fault(
        f"{SRC}/world_models/token.py", "rewards are learned from the block before",
        "return last[:, after], end_inputs,", "return last[:, steps], end_inputs,", "world_models/test_read_out.py",
    ),
    _fault(
        f"{SRC}/world_models/token.py", "tokens that only give context are scored",
        "scored = slice(self.unscored_blocks, None)", "scored = slice(None)", "world_models/test_token.py",
        "world_models/test_parallel.py",
    ),
    _fault(
        f"{SRC}/world_models/heads.py", "two-hot weights are swapped",
        "index == lower, above - y", "index == lower, y - below", "world_models/test_heads.py",
    ),
    _fault(
        f"{SRC}/replay/sampling.py", "segments miss the end of their episode",
        "counts = (self.buffer.lengths - self.context)", "counts = (self.buffer.lengths - self.context - 1)",
        "replay/test_sampling.py",
    ),
    _fault(
        f"{SRC}/replay/sampling.py", "much used episodes are preferred",
        "** -self.exponent", "** self.exponent", "replay/test_sampling.py",
    ),
    _fault(
        f"{SRC}/envs/wrappers.py", "flicker: one frame instead of the maximum of two",
        "self._last_two.max(axis=0)", "self._last_two[1].copy()", "envs/test_preprocessing.py",
    ),
    _fault(
        f"{SRC}/envs/wrappers.py", "losing a life goes unnoticed",
        'if 0 < info["lives"] < self._lives:', 'if 0 < info["lives"] < 0:', "envs/test_preprocessing.py",
    ),
    _fault(
        f"{SRC}/scores.py", "the score of nothing unlocked is one",
        "/ len(logarithms)) - 1", "/ len(logarithms))", "envs/test_crafter.py",
    ),
    _fault(
        f"{SRC}/epoch_files.py", "damaged weights are resumed from",
        'if digest(content) != head["sha256"]:', 'if not head["sha256"]:', "training/test_checkpoint.py",
    ),
    _fault(
        f"{SRC}/training/collector.py", "the return of an episode forgets earlier calls",
        "member.total += sum(rewards)", "member.total = sum(rewards)", "training/test_collector.py",
    ),
    _fault(
        f"{SRC}/training/evaluator.py", "losses grow with the number of batches",
        "torch.stack([batch[key] for batch in batches]).mean()", "torch.stack([batch[key] for batch in batches]).sum()",
        "training/test_evaluator.py",
    ),
    _fault(
        f"{SRC}/tracking/shipper.py", "a resumed run sends what has arrived again",
        'if record["step"] > self._last_steps.get(key, -1):', 'if record["step"] > -1:', "tracking/test_sync.py",
    ),
    _fault(
        f"{SRC}/tracking/feed.py", "a run that goes on keeps the status of its last end",
        'running = [] if self._has_ended else [_status("RUNNING")]', "running: list[Record] = []",
        "tracking/test_many.py",
    ),
    _fault(
        f"{SRC}/tracking/over_seeds.py", "a mean is of the seeds that happen to have a step",
        "if len(of_seeds) == count)", "if len(of_seeds) > 1)", "tracking/test_over_seeds.py",
    ),
    _fault(
        f"{SRC}/tracking/journal.py", "epochs after the checkpoint stay in the journal",
        'record.get("step", step) > step or', 'record.get("step", step) > step + 1 or', "tracking/test_journal.py",
    ),
    _fault(
        f"{SRC}/redaction.py", "a password reaches the screen",
        'text = _CREDENTIALS.sub(f"{MASK}@", text)', "pass", "test_redaction.py",
    ),
    _fault(
        f"{SRC}/files.py", "what others made is removed with ours",
        "if Path(place, name) not in kept:", "if True:", "test_files.py",
    ),
    _fault(
        f"{SRC}/runs/manifest.py", "a file that was cut off passes",
        ".st_size) != size:", ".st_size) > size:", "test_manifest.py",
    ),
    _fault(
        f"{SRC}/runs/settings.py", "runs of older versions are a kind of their own",
        "settings if settings.is_known or shipped is None else shipped", "settings", "test_settings.py",
    ),
    _fault(
        f"{SRC}/config/layers.py", "the command line can undo a variant",
        "for settings in (by_person, for_all, typed):", "for settings in (by_person, for_all):", "test_config.py",
    ),
    _fault(
        f"{SRC}/config/ranges.py", "an upper bound that is excluded is allowed",
        " or (self.is_open_above and value == self.highest)", "", "test_config.py", "test_ranges.py",
    ),
    _fault(
        f"{SRC}/checkpoints/iris.py", "keys and values are swapped",
        'for part in ("query", "key", "value")]', 'for part in ("query", "value", "key")]', "golden/test_iris_agent.py",
    ),
    _fault(
        "pipeline/clean.py", "unfinished runs are removed without being asked for",
        "(unfinished or not each.is_unfinished)", "True", "pipeline/test_clean.py",
    ),
    _fault(
        "pipeline/collect.py", "a score that is no number is averaged",
        "not -LARGEST <= value <= LARGEST", "False", "analysis/test_collect.py",
    ),
    _fault(
        "pipeline/preflight.py", "a package that is missing is not reported",
        "if affected and missing:", "if affected and not missing:", "pipeline/test_preflight.py",
    ),
    _fault(
        "analysis/stats/metrics.py", "the interquartile mean drops a third more",
        "int(TRIMMED_SHARE * values)", "int(1.3 * TRIMMED_SHARE * values)", "analysis/test_metrics.py",
    ),
    _fault(
        "analysis/stats/metrics.py", "ties count as losses",
        "(x > y) + 0.5 * (x == y)", "(x > y) + 0.0 * (x == y)", "analysis/test_metrics.py",
    ),
    _fault(
        "analysis/stats/bootstrap.py", "intervals of 90 per cent are called 95",
        "PERCENTILES = (2.5, 97.5)", "PERCENTILES = (5.0, 95.0)", "analysis/test_bootstrap.py",
    ),
    _fault(
        "analysis/data/scores.py", "a score that is not finite passes",
        "if not abs(row.score) <= LARGEST_SCORE:", "if False:", "analysis/test_scores.py",
    ),
    _fault(
        "analysis/draw/tables.py", "the best of a row where less is better is the largest",
        "(min if low_is_good else max)", "max", "analysis/test_tables.py",
    ),
    _fault(
        "analysis/papers/crafter.py", "a point far from a milestone stands for it",
        "if is_near else np.nan", "", "analysis/test_crafter.py",
    ),
    _fault(
        "analysis/studies/r03_differences.py", "differences have the wrong sign",
        "points_x[metric] - points_y[metric]", "points_y[metric] - points_x[metric]",
        "analysis/test_r03_differences.py",
    ),
    _fault(
        "analysis/data/scores.py", "rounding errors of files break ties",
        "result[found] = nearest[found]", "pass", "analysis/test_rounding.py",
    ),
    _fault(
        "analysis/data/identity.py", "a variant is compared with its method's published number",
        "PUBLISHED_VARIANTS.get(self.name, self.name)", "self.base", "analysis/test_ours.py",
    ),
    _fault(
        "analysis/comparisons.py", "our runs of variants are left out of comparisons",
        "naming.base_method(name) in methods]", "naming.twin(name) in methods]", "analysis/test_every_item.py",
    ),
    _fault(
        "analysis/data/choice.py", "the subject is not drawn last",
        "return 2, 0", "return 0, 0", "analysis/test_subject.py",
    ),
    _fault(
        "analysis/data/aggregates.py", "equal runs have an interval of no width",
        "if metrics.tell_spread(scores):", "if len(scores) > 1:", "analysis/test_ours.py",
    ),
    _fault(
        f"{SRC}/scores.py", "cut episodes count as whole",
        "return limit < WHOLE_EPISODES", "return limit > WHOLE_EPISODES", "analysis/test_ours.py", "tracking",
    ),
    _fault(
        f"{SRC}/tracking/shipper.py", "settings that are not set are sent as None",
        "if key not in known and value is not None}", "if key not in known}", "tracking/test_mlflow_objects.py",
    ),
    _fault(
        f"{SRC}/tracking/trained_agent.py", "an agent sent twice is two models",
        "model = found[0] if found else", "model =", "tracking/test_mlflow_objects.py",
    ),
    _fault(
        f"{SRC}/agents/imagination.py", "a rollout draws on the host",
        "batch, generator=generator, device=generator.device)", "batch)", "methods/test_other_device.py",
    ),
)  # fmt: skip
