"""Configuration: the typed schema of a run, part by part and with its checks; the layers that it is merged from."""
# ruff: noqa: F403 (every name of the parts, so that a further section needs no line here)

from tokenworlds.config.actor_critic import *
from tokenworlds.config.backbones import *
from tokenworlds.config.environments import *
from tokenworlds.config.generators import *
from tokenworlds.config.initialization import *
from tokenworlds.config.layers import known_methods as known_methods
from tokenworlds.config.layers import load as load
from tokenworlds.config.layers import load_written as load_written
from tokenworlds.config.paths import *
from tokenworlds.config.pretraining import *
from tokenworlds.config.provenance import Provenance as Provenance
from tokenworlds.config.provenance import provenance as provenance
from tokenworlds.config.quirks import *
from tokenworlds.config.run import *
from tokenworlds.config.tokenizers import *
from tokenworlds.config.training import *
from tokenworlds.config.trunk import *
from tokenworlds.config.values import to_dict as to_dict
from tokenworlds.config.world_models import *
