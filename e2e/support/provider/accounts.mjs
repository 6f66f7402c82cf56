// The people the provider knows. A story may add people and change their claims while it runs.

export class Accounts {
  #bySub = new Map();

  constructor() {
    this.add({ username: 'admin', name: 'Ada Admin', groups: ['admins'] });
    this.add({ username: 'operator', name: 'Olive Operator', groups: ['operators'] });
    this.add({ username: 'viewer', name: 'Vera Viewer', groups: ['viewers'] });
    this.add({ username: 'auditor', name: 'Aude Auditor', groups: ['auditors'] });
  }

  /** Adds a person; what is not given is made up from the user name. Returns the live account. */
  add({ username, ...claims }) {
    const account = {
      username,
      sub: `sub-of-${username}`,
      name: username,
      email: `${username}@example.test`,
      email_verified: true,
      groups: [],
      ...claims,
    };
    this.#bySub.set(account.sub, account);
    return account;
  }

  named(username) {
    return [...this.#bySub.values()].find((account) => account.username === username);
  }

  withSub(sub) {
    return this.#bySub.get(sub);
  }

  remove(username) {
    this.#bySub.delete(this.named(username)?.sub);
  }
}

/** The claims of an account as the provider states them. */
export function claimsOf(account) {
  const { username, ...claims } = account;
  return { preferred_username: username, ...claims };
}
