"""Tokens and cursors cannot be made or changed by anyone else."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tokens import ConsistencyToken, MalformedCursorError, MalformedTokenError, Signer

_positions = st.integers(0, 2**63 - 1)
_tokens = st.builds(
    ConsistencyToken,
    log_id=st.uuids().map(lambda one: UUID(int=one.int)),
    tenant=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
    first=_positions,
    last=_positions,
)
_SIGNER = Signer([b"new", b"old"])


@given(_tokens)
def test_a_token_is_read_as_it_was_signed_with_any_key(token: ConsistencyToken) -> None:
    assert _SIGNER.read_token(_SIGNER.sign_token(token)) == token
    assert _SIGNER.read_token(Signer([b"old"]).sign_token(token)) == token


@given(_tokens, st.data())
def test_a_changed_token_is_never_read_as_another(token: ConsistencyToken, data: st.DataObject) -> None:
    text = _SIGNER.sign_token(token)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    try:
        assert _SIGNER.read_token(changed) == token  # the last character has bits that mean nothing
    except MalformedTokenError:
        assert changed != text


@given(_tokens, st.text())
def test_tokens_of_other_keys_cursors_and_rubbish_are_refused(token: ConsistencyToken, rubbish: str) -> None:
    for text in (Signer([b"foreign"]).sign_token(token), _SIGNER.sign_cursor("s", {}), rubbish):
        with pytest.raises(MalformedTokenError):
            _SIGNER.read_token(text)
    with pytest.raises(MalformedCursorError):
        _SIGNER.read_cursor(_SIGNER.sign_token(token), "s")


def test_a_cursor_is_of_one_list_and_expires() -> None:
    assert _SIGNER.read_cursor(_SIGNER.sign_cursor("s", {"after": "a"}), "s") == {"after": "a"}
    for text in (_SIGNER.sign_cursor("other", {}), _SIGNER.sign_cursor("s", {}, lifetime_seconds=-2)):
        with pytest.raises(MalformedCursorError):
            _SIGNER.read_cursor(text, "s")
