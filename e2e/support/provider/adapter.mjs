// The provider's memory: one Map per provider, kept when its keys rotate or its port goes down.

const belongsToGrant = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

/** An `oidc-provider` adapter factory over `storage`, a Map from `Model:id` to payload. */
export function adapterOver(storage) {
  return (model) => new Adapter(model, storage);
}

/** All stored payloads of one model. */
export function* allOf(storage, model) {
  for (const [key, payload] of storage) {
    if (key.startsWith(`${model}:`)) yield payload;
  }
}

/** Forgets a grant and everything issued under it. */
export function forgetGrant(storage, grantId) {
  storage.delete(`Grant:${grantId}`);
  for (const [key, payload] of storage) {
    if (payload.grantId === grantId && belongsToGrant.has(key.split(':')[0])) storage.delete(key);
  }
}

class Adapter {
  constructor(model, storage) {
    this.model = model;
    this.storage = storage;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload) {
    this.storage.set(this.key(id), payload);
  }

  async find(id) {
    return this.storage.get(this.key(id));
  }

  async findByUid(uid) {
    for (const payload of allOf(this.storage, this.model)) {
      if (payload.uid === uid) return payload;
    }
    return undefined;
  }

  async findByUserCode() {
    return undefined;
  }

  async consume(id) {
    this.storage.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.storage.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    forgetGrant(this.storage, grantId);
  }
}
