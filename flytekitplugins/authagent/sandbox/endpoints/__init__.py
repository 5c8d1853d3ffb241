"""The endpoints of the OAuth provider beside the token endpoint, one a file."""
