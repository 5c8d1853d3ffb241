"""The device authorization grant (RFC 8628)."""

from __future__ import annotations

from typing import Any

from authlib.oauth2 import OAuth2Error, rfc8628
from authlib.oauth2.rfc6749 import InvalidGrantError

from flytekitplugins.authagent.sandbox.device_codes import DeviceCode
from flytekitplugins.authagent.sandbox.families import new_family
from flytekitplugins.authagent.sandbox.grants.client_authentication import ANY


class DeviceCodeGrant(rfc8628.DeviceCodeGrant):  # type: ignore[misc] # authlib has no types
    """A token of somebody who signed in on another screen."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY

    def query_device_credential(self, device_code: str) -> DeviceCode:
        """The device with this code. Raises `InvalidGrantError` where it is not one of this client's."""
        found: DeviceCode | None = self.server.issuer.device_codes.find(device_code)
        if found is None or found.client_id != self.request.client.id:
            raise InvalidGrantError("The device_code is unknown or used")
        return found

    def validate_device_credential(self, credential: DeviceCode) -> str:
        """
        Who agreed that the device acts for them.

        authlib's own takes "denied by nobody in particular" for a grant, so the answer of one poll decides here, in
        one step with spending the code. Raises what RFC 8628 section 3.5 names.
        """
        issuer = self.server.issuer
        self.server.counts.note("polls", credential.client_id)
        answer = issuer.device_codes.poll(credential, now=issuer.now())
        if answer != "allowed" or credential.user is None:
            raise OAuth2Error(error="access_denied" if answer == "allowed" else answer, status_code=400)
        return credential.user

    def generate_token(self, user: str, scope: str, **_: Any) -> dict[str, Any]:
        """What the device gets."""
        server, request = self.server, self.request
        audience = server.asked(request) or request.credential.audience
        token: dict[str, Any] = server.sign_in(request.client, user, scope, family=new_family(), audience=audience)
        return token
