"""What is secret of a grant, on its way into its row and out of it; and the keys under which rows are, and will be."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.database import Database
from flytekitplugins.authagent.hub.records import Tokens, tokens_from_json
from flytekitplugins.authagent.hub.seal import Seal

_TOKENS, _CONSENT, _CHECK = "tokens", "consent", "check"
_KNOWN = Secret("authagent hub")


class Sealing:
    """Seals what is secret of grants, and opens it, by `seal`: the one in use. Any thread may call."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self.seal = seal

    # Columns of `tables.sealed`

    def consent(self, id: str, sealed: bytes) -> Secret:
        """The consent for which the grant `id` waits. Raises `ProviderError` where it does not open."""
        return self.seal.open(sealed, what=_CONSENT, row=id)

    def sealed_consent(self, id: str, consent: Secret) -> tuple[bytes, str]:
        """`consent` for the row of the grant `id`, and the id of its key."""
        seal = self.seal
        return seal.seal(consent, what=_CONSENT, row=id), seal.first

    def tokens(self, id: str, sealed: bytes | None) -> Tokens:
        """The tokens of the grant `id`; none where none are kept. Raises `ProviderError` where they do not open."""
        return Tokens() if sealed is None else tokens_from_json(self.seal.open(sealed, what=_TOKENS, row=id))

    def kept(self, id: str, tokens: Tokens) -> dict[str, Any]:
        """The values by which `statements.KEEP` keeps `tokens` for the grant `id`."""
        seal = self.seal
        return {
            "grant": id,
            "sealed_tokens": seal.seal(tokens.to_json(), what=_TOKENS, row=id),
            "key": seal.first,
            "refreshable": tokens.refresh is not None,
        }

    # Keys

    def check(self, seal: Seal) -> None:
        """See that `seal` opens what was sealed, by one row of each key. Raises `ConfigError`."""
        where = self._database.address

        def work(connection: Connection) -> None:
            for key, id in connection.execute(sql.KEYS_IN_USE).all():
                if key not in seal.key_ids:
                    raise ConfigError(
                        f"the store at {where} has rows under the key {key}, which is not among the keys "
                        f"({', '.join(seal.key_ids)})",
                        hint="add that key after the first one; only what is resealed does without its old key",
                    )
                _, tokens, consent = connection.execute(sql.ANY_OF, {"grant": id}).one()
                _opens(seal, tokens, _TOKENS, id, f"a row of the store at {where}")
                _opens(seal, consent, _CONSENT, id, f"a row of the store at {where}")
            known = {row[0]: row[1] for row in connection.execute(sql.CHECKS)}
            for key in seal.key_ids:
                _opens(seal, known.get(key), _CHECK, key, f"what the store at {where} knows the key {key} by")
            if seal.first not in known:
                sealed = seal.seal(_KNOWN, what=_CHECK, row=seal.first)
                connection.execute(sql.NEW_CHECK, {"key_id": seal.first, "sealed": sealed})

        for last in (False, True):
            try:
                self._database.write(work)
            except IntegrityError:  # another replica wrote the same check
                if last:
                    raise
            else:
                return

    def use(self, seal: Seal) -> None:
        """Seal under the keys of `seal`, which `check` has let pass, from now on. Nothing stops for it."""
        self.seal = seal

    def reseal(self, limit: int) -> int:
        """Seal `limit` rows at most, which are under an older key, under the first one; how many that were."""
        seal = self.seal
        old = list(seal.key_ids[1:])
        if not old:
            return 0

        def work(connection: Connection) -> int:
            rows = connection.execute(sql.UNDER_OLD_KEYS, {"old": old, "most": limit}).all()
            for id, tokens, consent in rows:
                connection.execute(
                    sql.RESEAL,
                    {
                        "grant": id,
                        "key": seal.first,
                        "sealed_tokens": _resealed(seal, tokens, _TOKENS, id),
                        "sealed_consent": _resealed(seal, consent, _CONSENT, id),
                    },
                )
            return len(rows)

        return self._database.write(work)


def _resealed(seal: Seal, sealed: bytes | None, what: str, row: str) -> bytes | None:
    return None if sealed is None else seal.seal(seal.open(sealed, what=what, row=row), what=what, row=row)


def _opens(seal: Seal, sealed: bytes | None, what: str, row: str, of: str) -> None:
    try:
        _resealed(seal, sealed, what, row)
    except ProviderError:
        raise ConfigError(f"{of} does not open under the key of its id", hint="restore the key, or a backup") from None
