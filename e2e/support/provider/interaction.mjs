// The provider's own pages during sign-in: ask for a user name, then agree to everything asked for.

import { text } from 'node:stream/consumers';
import { loginForm } from './forms.mjs';

/** Answers `/interaction/{uid}`, GET and POST. */
export async function answerInteraction(desk, request, response) {
  const { provider } = desk;
  const details = await provider.interactionDetails(request, response);
  const finish = (result) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });

  if (details.prompt.name === 'consent') return finish({ consent: { grantId: await consented(provider, details) } });
  if (request.method === 'GET') {
    desk.loginFormsShown += 1;
    return show(response, 200, loginForm(details.uid));
  }

  const answer = new URLSearchParams(await text(request));
  if (answer.get('act') === 'cancel') {
    return finish({ error: 'access_denied', error_description: 'the person pressed Cancel' });
  }
  const account = desk.accounts.named(answer.get('username'));
  if (!account) return show(response, 400, loginForm(details.uid, 'Nobody here has that name'));
  return finish({ login: { accountId: account.sub } });
}

async function consented(provider, { grantId, params, session, prompt }) {
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
  return grant.save();
}

function show(response, status, body) {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  response.end(body);
}
