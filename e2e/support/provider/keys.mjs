// The provider's signing keys: one of each kind, so that every algorithm can be asked for.

import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';

const pair = promisify(generateKeyPair);
let generation = 0;

/** A fresh private JWK set: RSA 2048, P-256, P-384 and Ed25519, each with its own kid. */
export async function freshKeys() {
  generation += 1;
  const kinds = [
    ['rsa', ['rsa', { modulusLength: 2048 }]],
    ['p256', ['ec', { namedCurve: 'P-256' }]],
    ['p384', ['ec', { namedCurve: 'P-384' }]],
    ['ed25519', ['ed25519', undefined]],
  ];
  const made = await Promise.all(kinds.map(([, recipe]) => pair(...recipe)));
  return made.map(({ privateKey }, index) => ({
    ...privateKey.export({ format: 'jwk' }),
    kid: `${kinds[index][0]}-${generation}`,
    use: 'sig',
  }));
}

/** A client's key for `private_key_jwt`: the PKCS#8 text for lokid, the public JWK for the provider. */
export async function clientKey(kind) {
  const { privateKey, publicKey } = kind === 'rsa'
    ? await pair('rsa', { modulusLength: 2048 })
    : await pair('ec', { namedCurve: kind });
  return {
    pem: privateKey.export({ format: 'pem', type: 'pkcs8' }),
    publicJwk: publicKey.export({ format: 'jwk' }),
  };
}

/** The members of a key that the world may see. */
export function publicPart({ kty, use, kid, alg, crv, e, n, x, y }) {
  return JSON.parse(JSON.stringify({ kty, use, kid, alg, crv, e, n, x, y }));
}
