// Other people's programs that check assertions: `jose` in this process, PyJWT in one of its own.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { run } from './shell.mjs';

// Made by .ci/setup.
const PYTHON = fileURLToPath(new URL('../node_modules/.cache/python/bin/python3', import.meta.url));
const SCRIPT = fileURLToPath(new URL('./verify.py', import.meta.url));

export const hasPyJwt = existsSync(PYTHON);

const keySetOf = (issuer) => new URL('/.well-known/jwks.json', issuer);

/** An app that reads lokid's key set: `check(assertion, { audience, alg })` gives the claims or throws. */
export function joseApp(issuer) {
  const keys = createRemoteJWKSet(keySetOf(issuer));
  return async (assertion, { audience, alg }) => {
    const rules = { issuer, audience, typ: 'loki-assertion+jwt', algorithms: [alg], requiredClaims: ['sub', 'jti', 'iat', 'exp'] };
    return (await jwtVerify(assertion, keys, rules)).payload;
  };
}

export function pythonApp(issuer) {
  return async (assertion, { audience, alg }) => {
    const args = [SCRIPT, keySetOf(issuer).href, issuer, audience, alg];
    const { code, stdout, stderr } = await run(PYTHON, args, { input: assertion });
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };
}
