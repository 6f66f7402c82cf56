"""Checks an assertion from stdin with PyJWT, as a Python app behind the door would.

verify.py KEY_SET_URL ISSUER AUDIENCE ALGORITHM: prints its claims as JSON, or ends with 1 and says why not.
"""

import json
import sys

import jwt


def main():
    key_set, issuer, audience, algorithm = sys.argv[1:]
    assertion = sys.stdin.read().strip()
    try:
        if jwt.get_unverified_header(assertion).get("typ") != "loki-assertion+jwt":
            raise jwt.InvalidTokenError("its typ is another one")
        key = jwt.PyJWKClient(key_set).get_signing_key_from_jwt(assertion)
        claims = jwt.decode(
            assertion,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
        )
    except jwt.PyJWTError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps(claims))


main()
