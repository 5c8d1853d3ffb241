"""The seal: what it opens, what it refuses, and what its errors say."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError
from flytekitplugins.authagent.hub.seal import Key, Seal

KEYS = [base64.b64encode(bytes([n]) * 32).decode() for n in range(20)]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def seal(*numbers: int) -> Seal:
    return Seal(Key(bytes([n]) * 32) for n in numbers)


@given(text, text, st.sampled_from(["tokens", "consent"]))
def test_what_is_sealed_opens_in_its_place_and_nowhere_else(secret: str, row: str, what: str) -> None:
    ours, other = seal(1), "consent" if what == "tokens" else "tokens"
    sealed = ours.seal(Secret(secret), what=what, row=row)

    assert ours.open(sealed, what=what, row=row) == Secret(secret)
    for wrong in ({"what": other, "row": row}, {"what": what, "row": row + "x"}):
        with pytest.raises(ProviderError, match="do not open"):
            ours.open(sealed, **wrong)


@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    sealed = bytearray(seal(1).seal(Secret("s3cret"), what="tokens", row="r"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ProviderError):
        seal(1).open(bytes(sealed), what="tokens", row="r")


@given(st.binary(max_size=80))
def test_no_bytes_make_it_raise_anything_else(junk: bytes) -> None:
    for start in (b"", b"\x01", b"\x01" + bytes.fromhex(seal(1).first)):
        with pytest.raises(ProviderError):
            seal(1).open(start + junk, what="tokens", row="r")


def test_the_same_text_is_never_sealed_to_the_same_bytes() -> None:
    assert len({seal(1).seal(Secret("s"), what="tokens", row="r") for _ in range(1000)}) == 1000


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old, both, new = seal(1), seal(2, 1), seal(2)
    before, after = (one.seal(Secret("s"), what="tokens", row="r") for one in (old, both))

    assert both.key_ids == (new.first, old.first)
    assert both.open(before, what="tokens", row="r") == new.open(after, what="tokens", row="r") == Secret("s")
    with pytest.raises(ProviderError, match=f"under the key {old.first}, which is not here"):
        new.open(before, what="tokens", row="r")


def test_the_id_of_a_key_is_a_digest_and_the_format_stays_as_it_is() -> None:
    assert seal(1).first == hashlib.sha256(b"authagent hub key id\0" + b"\1" * 32).hexdigest()[:16]
    kept = bytes.fromhex(SEALED_BY_THE_FIRST_RELEASE)
    assert seal(1).open(kept, what="tokens", row="row-1") == Secret("a token of long ago")


def test_keys_are_read_from_a_file_with_comments_and_from_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path / "keys", f"# new, since May\n{KEYS[2]}   # seals\n\n{KEYS[1]}\r\n")

    assert Seal.from_file(file).key_ids == seal(2, 1).key_ids
    assert Seal.from_environment("KEYS", {"KEYS": f"{KEYS[2]}\n{KEYS[1]}"}).key_ids == seal(2, 1).key_ids


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no key"),
        ("# nothing\n\n", "holds no key"),
        (f"{KEYS[1]}\n{KEYS[2]}\n{KEYS[1]}\n", "line 3 of .* is the key of line 1 again"),
        (f"{KEYS[1]}\n{base64.b64encode(b'q' * 16).decode()}\n", "line 2 of .* holds 16 bytes; a key has 32"),
        (f"\n{KEYS[1]}!\n", "line 2 of .* is not base64"),
        (f"{KEYS[1]} {KEYS[2]}\n", "line 1 of .* is not base64"),
        ("\n".join(KEYS[:17]), "holds 17 keys; 16 is the most"),
        ("kéy\n", "is not text"),
    ],
)
def test_keys_that_cannot_be_used_are_named_by_their_line_and_not_shown(
    content: str, says: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "keys", content)
    with pytest.raises(ConfigError, match=says) as refused:
        Seal.from_file(file)

    assert str(file) in str(refused.value)
    assert refused.value.hint
    assert not any(key in str(refused.value) for key in [*KEYS, "cXFx"])


def test_a_file_that_others_can_read_is_refused_unless_there_are_no_others(tmp_path: Path) -> None:
    file = written(tmp_path / "keys", KEYS[1], mode=0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        Seal.from_file(file)
    assert Seal.from_file(file, in_pod=True).first == seal(1).first


def test_keys_that_are_not_there_say_how_to_make_one(tmp_path: Path) -> None:
    for wrong in (lambda: Seal.from_file(tmp_path / "none"), lambda: Seal.from_environment("NONE", {})):
        with pytest.raises(ConfigError, match=r"not (there|set)") as refused:
            wrong()
        assert "head -c 32 /dev/urandom | base64" in str(refused.value)


def test_neither_a_seal_nor_a_key_shows_the_key() -> None:
    material = os.urandom(32)
    key = Key(material)
    shown = repr(key) + repr(Seal([key])) + str(Seal([key]))
    assert base64.b64encode(material).decode() not in shown
    assert repr(material) not in shown
    assert material.hex() not in shown


SEALED_BY_THE_FIRST_RELEASE = (
    "01ff241f740d349d24fbe746660686da5d03590a3ab3f838c3461a576b206609882bb463067a7168c467adfc62a88ab36f9496e0b3b20f51"
)
