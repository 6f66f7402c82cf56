// The client that stands for lokid at the provider, in each way of proving itself, and the settings to match.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { clientKey } from './provider/keys.mjs';

export const CLIENT_ID = 'urn:lokid:home';
// RFC 6749 §2.3.1: both are form-encoded before base64. These hold signs that show when they are not.
export const CLIENT_SECRET = 'a+secret/with%20signs:and=more&0123456789';

export const waysToProveAClient = [
  'client_secret_basic', 'client_secret_post', 'private_key_jwt with P-256', 'private_key_jwt with RSA', 'none',
];

/** Registers lokid at `provider` and returns its part of the `oidc` settings. Key files go to `directory`. */
export async function introduce(provider, { url, way = 'client_secret_basic', directory }) {
  const [method, , kind] = way.split(' ');
  const client = {
    client_id: CLIENT_ID,
    client_name: 'lokid',
    token_endpoint_auth_method: method,
    redirect_uris: [`${url}/auth/oidc/callback`],
    post_logout_redirect_uris: [`${url}/login?signed_out=1`],
    backchannel_logout_uri: `${url}/auth/oidc/backchannel-logout`,
    backchannel_logout_session_required: true,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  };
  const settings = { client_id: CLIENT_ID, client_auth: method };
  if (method.startsWith('client_secret')) {
    client.client_secret = settings.client_secret = CLIENT_SECRET;
  }
  if (method === 'private_key_jwt') {
    const key = await clientKey(kind === 'RSA' ? 'rsa' : kind);
    client.jwks = { keys: [key.publicJwk] };
    client.token_endpoint_auth_signing_alg = kind === 'RSA' ? 'RS256' : 'ES256';
    settings.private_key_file = join(directory, 'client-key.pem');
    await writeFile(settings.private_key_file, key.pem, { mode: 0o600 });
  }
  provider.register(client);
  return settings;
}
