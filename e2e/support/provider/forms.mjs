// What a person sees at the provider: a name to type, a question at sign-out. Plain forms, no script.

const page = (title, body) => `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${title}</title><meta name="viewport" content="width=device-width"></head>
<body><main><h1>${title}</h1>
${body}
</main></body>
</html>
`;

const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

export function loginForm(uid, problem = '') {
  return page('Example provider', `
<p role="status">${escaped(problem)}</p>
<form method="post" action="/interaction/${uid}">
  <label>Username <input name="username" autocomplete="username" required></label>
  <button name="act" value="login">Log in</button>
  <button name="act" value="cancel" formnovalidate>Cancel</button>
</form>`);
}

/** The question at RP-initiated logout. `form` comes from the provider and carries its own secret. */
export function logoutForm(form) {
  return page('Leave the example provider?', `${form}
<button type="submit" form="op.logoutForm" name="logout" value="yes">Yes, log me out</button>
<button type="submit" form="op.logoutForm">No, stay</button>`);
}

export const goneForm = page('You have left the example provider', '');

export function heldCallback(url) {
  return page('Sign-in held', `<a id="held-callback" href="${escaped(url)}">Continue to the application</a>`);
}

export function errorForm(out) {
  return page('The provider refused', `<pre>${escaped(JSON.stringify(out))}</pre>`);
}
