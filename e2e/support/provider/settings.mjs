// How the certified provider is set up. Everything here is its documented configuration.

import { randomBytes } from 'node:crypto';
import { adapterOver } from './adapter.mjs';
import { claimsOf } from './accounts.mjs';
import { errorForm, goneForm, logoutForm } from './forms.mjs';

const HOUR = 3600;
const cookieKeys = [randomBytes(32).toString('hex')];
const signingAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA'];

/** The configuration for `desk`, the running provider that holds memory, people, keys and switches. */
export function settingsFor(desk) {
  return {
    adapter: adapterOver(desk.storage),
    jwks: { keys: desk.signingKeys },
    cookies: { keys: cookieKeys },
    scopes: ['openid', 'offline_access'],
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'groups'],
    },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    enabledJWA: {
      idTokenSigningAlgValues: signingAlgorithms,
      clientAuthSigningAlgValues: signingAlgorithms,
    },
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
    findAccount: (_ctx, sub) => findAccount(desk, sub),
    rotateRefreshToken: () => true,
    ttl: {
      AccessToken: HOUR, AuthorizationCode: 60, IdToken: HOUR, RefreshToken: 24 * HOUR,
      Interaction: HOUR, Session: 24 * HOUR, Grant: 24 * HOUR,
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: true },
      revocation: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => { ctx.body = logoutForm(form); },
        postLogoutSuccessSource: (ctx) => { ctx.body = goneForm; },
      },
    },
    renderError: (ctx, out) => { ctx.type = 'html'; ctx.body = errorForm(out); },
    fetch: (url, options) => desk.sendOut(url, options),
  };
}

function findAccount(desk, sub) {
  const account = desk.accounts.withSub(sub);
  if (!account) return undefined;
  return {
    accountId: sub,
    claims(use) {
      const { groups, ...rest } = claimsOf(account);
      return use === 'id_token' && desk.groupsOnlyInUserinfo ? rest : { ...rest, groups };
    },
  };
}
