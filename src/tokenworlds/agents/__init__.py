"""Agents: tokenizer, world model and policy together, and rollouts of the policy in imagination."""
