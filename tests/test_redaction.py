"""Credentials of addresses are masked wherever they stand in a text; everything else stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworlds.errors import UserError, excerpt
from tokenworlds.redaction import redact, redact_values

SECRET = "hunter2-S3cr3t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"http://me:{SECRET}@host:5000/path", "http://***@host:5000/path"),
        (f"https://{SECRET}@github.com/someone/repo.git", "https://***@github.com/someone/repo.git"),
        (f"postgresql+psycopg2://me:{SECRET}/with@slash@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        (f"two: http://a:{SECRET}@b, ftp://c:{SECRET}@d.", "two: http://***@b, ftp://***@d."),
        (f"https://host/api?token={SECRET}&page=2", "https://host/api?token=***&page=2"),
        (f"https://host/api?a=1&access_token={SECRET}#top", "https://host/api?a=1&access_token=***#top"),
        (f"s3://bucket/x?X-Amz-Signature={SECRET}", "s3://bucket/x?X-Amz-Signature=***"),
        (f"host=db user=me password={SECRET} port=5432", "host=db user=me password=*** port=5432"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
    ],
)
def test_credentials_are_masked(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////tmp/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1",
        "training.tokenizer.updates_per_epoch=3 quirks.shared_prediction_token=true",
        "mail someone@example.com about key=value",
        "model.policy.input: tokens",
        "a basic idea",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


@given(
    st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="@"), min_size=1, max_size=12).map(
        lambda text: f"<{text}>{SECRET}"
    ),
    st.sampled_from(["http", "https", "postgresql+psycopg2", "mysql", "ssh", "s3"]),
)
def test_no_password_survives(password: str, scheme: str) -> None:
    assert SECRET not in redact(f"cannot reach {scheme}://user:{password}@host/path?x=1 (refused)")


def test_structures_are_redacted_in_depth() -> None:
    address = f"http://me:{SECRET}@host"
    values = {"a": [address, 1, None], "b": {"c": (address, 2.5, True)}}
    assert redact_values(values) == {"a": ["http://***@host", 1, None], "b": {"c": ["http://***@host", 2.5, True]}}


def test_messages_for_people_are_redacted() -> None:
    assert str(UserError(f"MLflow at http://me:{SECRET}@host did not answer.")) == (
        "MLflow at http://***@host did not answer."
    )


def test_an_excerpt_does_not_end_in_a_password() -> None:
    address = f"http://me:{SECRET}@host/a/long/path/to/something"
    assert all(excerpt(address, length)[:-3] in "http://***@host/a/long/path/to/something" for length in range(5, 60))
