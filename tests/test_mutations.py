"""The list of deliberate faults fits the code; ``python -m tests.mutations`` runs them."""

import pytest

from tests.conftest import PROJECT
from tests.mutations.faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.file}: {fault.what}")
def test_every_fault_can_be_inserted_and_has_tests(fault: Fault) -> None:
    text = (PROJECT / fault.file).read_text()
    assert fault.insert(text) != text
    assert all((PROJECT / name).exists() for name in fault.tests)
