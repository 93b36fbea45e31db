"""The coding of Craftax's observations against the golden vectors."""

from tests.golden.support import load_case
from tokenworlds.envs.craftax import observation as craftax


def test_a_flat_observation_becomes_its_modalities() -> None:
    case = load_case("m3", "craftax_observation")
    decoded = craftax.decode_observation(case.array("in.observation"))
    case.assert_close(decoded["token_2d"], "out.map")
    case.assert_close(decoded["vector"], "out.stats")
    case.assert_close(decoded["token"], "out.direction")


def test_the_layout_is_the_published_one() -> None:
    config = load_case("m3", "craftax_observation").config
    assert config["cell_layout"] == [craftax.BLOCKS, craftax.ITEMS, craftax.MOBS, 1]
    assert config["column_vocab"] == [craftax.BLOCKS, craftax.ITEMS, craftax.MOBS, craftax.LIGHTS]
    assert config["cells"] == craftax.HEIGHT * craftax.WIDTH
    assert config["stats_dim"] == craftax.STATISTICS - 4
    assert config["direction_offset"] == craftax.DIRECTION.start
